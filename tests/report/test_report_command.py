"""t2tbuild report: pages of runs, and one error message for other folders."""

import json
import subprocess
from pathlib import Path

import pytest

from t2tbuild import load_spec, predict_cost, search, train
from tests.command import run_t2tbuild
from tests.nas.conftest import tiny_search
from tests.report.test_search_page import embedded

pytestmark = pytest.mark.slow

TINY = ["model.backbone.depth=1", "train.data.image_size=16", "train.epochs=2", "train.batch_size=256"]


def report(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_t2tbuild("report", *map(str, arguments))


def test_the_page_of_a_training(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(load_spec("t2t_vit_7", TINY), run)
    done = report(run)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{run / 'report.html'}\n"
    message = json.loads((run / "report.json").read_text())
    assert message["verdict"].startswith(f"t2t_vit_7: test accuracy {result.test_accuracy:.1%}, validation")
    assert [epoch["epoch"] for epoch in message["epochs"]] == [1, 2]
    assert message["macs"] == predict_cost(load_spec(run / "spec.yaml").model).macs
    assert message["macs"] == sum(part["macs"] for part in message["parts"])
    page = (run / "report.html").read_text()
    assert embedded(page) == {"epochs": message["epochs"]}
    assert message["verdict"] in page
    assert "depth: 1" in page
    with (run / "metrics.jsonl").open("a") as lines:
        lines.write('{"event": "epoch"}\n{"event": "epoch", "epoch": 3}\n')  # incomplete epochs
    assert report(run).returncode == 0
    assert [epoch["epoch"] for epoch in json.loads((run / "report.json").read_text())["epochs"]] == [1, 2]
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    blocked = report(run)
    assert (blocked.returncode, "cannot be written" in blocked.stderr) == (2, True), blocked.stderr
    for text in ("{", "{}", "[]"):
        (run / "environment.json").write_text(text)
        broken = report(run)
        assert (broken.returncode, "environment.json" in broken.stderr) == (2, True), broken.stderr
    (run / "metrics.jsonl").write_text("")
    empty = report(run)
    assert empty.returncode == 2
    assert "no epoch is complete" in empty.stderr
    assert "t2tbuild train" in empty.stderr


def test_the_page_of_a_search_is_rewritten(tmp_path: Path) -> None:
    run = tmp_path / "run"
    search(tiny_search(tmp_path, "search.trials=1", "search.confirm=null", "search.proxy.seeds=1"), run)
    before = json.loads((run / "report.json").read_text())
    (run / "report.json").unlink()
    done = report(run, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"page": str(run / "report.html"), "data": str(run / "report.json")}
    assert json.loads((run / "report.json").read_text()) == before
    assert before["verdict"] in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("files", "fact"),
    [
        ([], "no spec.yaml"),
        (["spec.yaml"], "no environment.json"),
        (None, "no such folder"),
    ],
)
def test_a_folder_that_is_no_run_gives_one_message(tmp_path: Path, files: list[str] | None, fact: str) -> None:
    run = tmp_path / "run"
    if files is not None:
        run.mkdir()
        for name in files:
            (run / name).write_text("version: 1\n")
    done = report(run)
    assert done.returncode == 2
    assert fact in done.stderr
    assert str(run) in done.stderr
    assert "Traceback" not in done.stderr
