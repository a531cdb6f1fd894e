"""t2tbuild search and its subcommands, in real processes."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from t2tbuild import load_spec
from t2tbuild.cli import app
from t2tbuild.cli.search import SUBCOMMANDS
from t2tbuild.report.diagram import diagram_svg
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.units import short_count
from tests.command import run_t2tbuild, start_t2tbuild
from tests.database_file import open_database_file
from tests.nas.conftest import tiny_search

pytestmark = pytest.mark.slow

FEW_WIDTHS = "search.space={backbone.embed_dim: {choices: [256, 384, 512]}, backbone.depth: {fill: [0.8, 1.0]}}"


def t2tbuild(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_t2tbuild("search", *arguments, cwd=cwd, COLUMNS="80")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small search that two workers ran."""
    where = tmp_path_factory.mktemp("cli")
    tiny_search(where)
    done = t2tbuild("tiny.yaml", "--budget-macs", "6M", "--trials", "3", "--out", "run", "--workers", "2", cwd=where)
    assert done.returncode == 0, done.stderr
    (where / "out").write_text(done.stdout)
    (where / "err").write_text(done.stderr)
    return where


def test_the_verdict_comes_first_and_the_next_commands_last(folder: Path) -> None:
    lines = (folder / "out").read_text().splitlines()
    assert lines[0].startswith(("No evidence of improvement", "Candidate"))
    assert lines[1].startswith("winner: ")
    assert any("trained over budget: 0" in line for line in lines)
    assert any(line.startswith("test split, evaluated once after the search: winner") for line in lines)
    assert any(line.startswith("proxy training, not full training") for line in lines)
    assert lines[-1] == "next: t2tbuild summarize run/best.yaml && t2tbuild train run/best.yaml --data DIR"
    seen = (folder / "err").read_text()
    assert "base" in seen
    assert "3 of 3 candidates" in seen


def test_the_first_line_is_what_is_searched(folder: Path) -> None:
    lines = (folder / "err").read_text().splitlines()
    (at,) = [at for at, line in enumerate(lines) if line.startswith("searching ")]
    wanted = "searching tiny: 3 candidates within 6.00M MACs, base small, 2 workers, run directory run;"
    assert lines[at].startswith(wanted)
    assert not any(" of 3 candidates" in line for line in lines[:at])  # warnings of the spec come before


def test_an_interrupt_before_the_study_exists_says_how_to_start_again(tmp_path: Path) -> None:
    """The first line comes before torch is loaded, so the signal arrives long before the study."""
    tiny_search(tmp_path)
    arguments = ["tiny.yaml", "--trials", "2", "--workers", "1"]
    command = [sys.executable, "-m", "t2tbuild", "search", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        while not (line := process.stderr.readline()).startswith("searching "):
            assert line, "the search ended"
        assert "run directory runs/tiny-" in line
        process.send_signal(signal.SIGINT)
        lines = process.stderr.read().splitlines()
        assert process.wait(60) == 130
    again = f"cd {tmp_path} && t2tbuild search {' '.join(arguments)}"
    assert lines == ["interrupted; nothing was saved yet; start again with:", again]
    assert not list(tmp_path.glob("runs/*/study.db"))


def test_an_interrupt_later_says_how_to_continue(tmp_path: Path) -> None:
    tiny_search(tmp_path)
    arguments = ["tiny.yaml", "--workers", "1", "--out", "run", "--trials", "1000000", "search.proxy.rungs=[1,1000000]"]
    process = start_t2tbuild("search", *arguments, cwd=tmp_path)
    process.wait_for("    base", stream="stderr")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-2:] == [
        "interrupted; finished results are saved; continue with:",
        f"t2tbuild search resume {tmp_path / 'run'}",
    ]


def test_a_run_is_a_directory(folder: Path) -> None:
    left = {path.name for path in (folder / "run").iterdir()}
    assert left >= {
        "best.yaml",
        "candidates.csv",
        "pareto.png",
        "study.db",
        "spec.yaml",
        "environment.json",
        "report.json",
    }
    best = load_spec(folder / "run" / "best.yaml").model
    assert isinstance(best, ModelSpec)
    assert best.num_classes == 1000
    assert (folder / "run" / "diagram.svg").read_text(encoding="utf-8") == diagram_svg(best)
    best_yaml = (folder / "run" / "best.yaml").read_text()
    assert "counted by fvcore" in best_yaml
    assert "t2tbuild train run/best.yaml" in best_yaml


def test_the_report_loads_nothing_from_elsewhere(folder: Path) -> None:
    page = (folder / "run" / "report.html").read_text()
    verdict = json.loads((folder / "run" / "report.json").read_text())["verdict"]
    assert f'<p class="verdict">{verdict}</p>' in page
    assert "<svg" in page
    assert page.count("<tr>") > 10
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "http://purl.org/dc/elements/1.1/"}
    links = set(re.findall(r"(?:src|href|url)=[\"']?(https?:[^\"' >]+)", page))
    assert links <= names
    assert not re.search(r"<script[^>]*\ssrc|<link|@import|url\(http", page)


def test_status_shows_the_progress_of_a_search(folder: Path) -> None:
    done = t2tbuild("status", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny: 3 of 3 candidates trained")
    assert re.search(r"^base: 2 of 2 seeds; confirmation runs: (\d) of \1$", done.stdout, re.MULTILINE)
    assert "continue with" not in done.stdout
    status = json.loads(t2tbuild("status", "run", "--json", cwd=folder).stdout)
    assert (status["trials"], status["running"], status["to_confirm"]) == (3, [], 0)
    verdict = json.loads((folder / "run" / "report.json").read_text())["verdict"]
    assert (status["outcome"], status["verdict"]) == ("complete", verdict)
    assert done.stdout.splitlines()[-1] == f"finished, complete: {verdict}"


def test_resume_with_fewer_trials_than_were_trained_says_so_and_reports(folder: Path) -> None:
    done = t2tbuild("resume", "run", "--trials", "2", "--workers", "1", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "3 candidates were trained already, so --trials 2 adds none; write --trials 5 for 2 more" in done.stderr
    assert json.loads(done.stdout)["counts"]["trained"] == 3


def test_resume_continues_and_export_writes_the_results_so_far(folder: Path) -> None:
    done = t2tbuild("resume", "run", "--trials", "4", "--workers", "1", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "trained already" not in done.stderr
    assert json.loads(done.stdout)["counts"]["trained"] == 4
    names = ("best.yaml", "diagram.svg", "report.json", "candidates.csv", "pareto.png")
    for name in names:
        (folder / "run" / name).unlink()
    done = t2tbuild("export", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert all((folder / "run" / name).exists() for name in names)


def test_repair_queues_the_training_of_a_dead_worker_again(folder: Path) -> None:
    with open_database_file(folder / "run" / "study.db") as database:
        last = "select max(trial_id) from trials join studies using (study_id) where study_name = 'tiny.references'"
        database.execute(f"update trials set state = 'RUNNING' where trial_id = ({last})")
        database.execute("update trial_heartbeats set heartbeat = '2020-01-01 00:00:00'")
    done = t2tbuild("repair", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "trainings queued again because their workers died: 1" in done.stdout
    waits = t2tbuild("status", "run", cwd=folder).stdout
    assert re.search(r"^waiting: \S+( seed \d)?, after 2 steps, for a worker$", waits, re.MULTILINE)
    stopped = "no training is running; if the search has stopped, continue with: t2tbuild search resume"
    assert waits.endswith(f"{stopped} {folder / 'run'}\n")
    assert done.stderr.endswith("next: t2tbuild search resume run\n")
    assert t2tbuild("resume", "run", "--workers", "1", cwd=folder).returncode == 0
    assert t2tbuild("repair", "run", cwd=folder).stdout == "nothing to repair\n"


def test_explain_trains_nothing(tmp_path: Path) -> None:
    done = t2tbuild("--explain", "--plot", "space.png", FEW_WIDTHS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "members within 5.00G MACs (counted)" in done.stdout
    assert (tmp_path / "space.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["space.png"]
    space = json.loads(t2tbuild("deep_narrow", FEW_WIDTHS, "--explain", "--json", cwd=tmp_path).stdout)
    assert space["exact"]
    assert space["largest"]["macs"] <= 5_000_000_000
    assert (space["base"]["over_budget"], space["base"]["scaled_to"]) == (False, None)


def test_explain_says_what_the_base_is_scaled_to(tmp_path: Path) -> None:
    arguments = ("deep_narrow", FEW_WIDTHS, "--budget-macs", "2G", "--explain")
    base = json.loads(t2tbuild(*arguments, "--json", cwd=tmp_path).stdout)["base"]
    scaled = base["scaled_to"]
    assert base["over_budget"] and base["name"] == "t2t_vit_14" and base["macs"] == 4_800_254_784
    assert scaled["macs"] <= 2_000_000_000
    (line,) = [line for line in t2tbuild(*arguments, cwd=tmp_path).stdout.splitlines() if line.startswith("base ")]
    for part in ("t2t_vit_14", "4.80G MACs", "over the budget of 2.00G MACs", short_count(scaled["macs"])):
        assert part in line
    assert f"depth {scaled['model']['backbone']['depth']}, width {scaled['model']['backbone']['embed_dim']}" in line
    space = "search.space={backbone.mlp_ratio: {choices: [1, 2]}}"
    fields = ("search.base=t2t_vit_dense", space, "search.target=data")
    dense = t2tbuild("deep_narrow", "--explain", *fields, cwd=tmp_path)
    assert "so it is scaled to t2t_vit_dense_18x128: 4.50G MACs" in dense.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "nowhere"], "nowhere: not the run directory of a search: it has no spec.yaml"),
        (["resume", "nowhere"], "nowhere: not the run directory of a search"),
        (["export", "empty"], "empty: not the run directory of a search"),
        (
            ["--storage", "mongodb://me:hush@host/db"],
            "no such storage",
        ),
        (["--storage", "postgresql://me:hush@127.0.0.1:1/db", "--out", "x"], "cannot be opened"),
        (["--storage", "postgresql://me:p@hush@127.0.0.1:1/db", "--out", "x"], "cannot be opened"),
        (["--storage", "postgresql://127.0.0.1:1/db?user=me&password=hush", "--out", "x"], "cannot be opened"),
        (["--storage", "postgresql://me:hush@127.0.0.1:port/db", "--out", "x"], "cannot be opened"),
        (["--storage", "postgresql:me:hush@host/db", "--out", "x"], "no such storage"),
        (["--storage", "sqlite:///nowhere/study.db", "--out", "x"], "its folder does not exist"),
        (["--plot", "space.png"], "--plot needs --explain"),
        (["statsu", "run"], "did you mean search status?"),
        (["resmue", "run", "--trials", "4"], "did you mean search resume?"),
        (["deep_narow"], "did you mean deep_narrow?"),
        (["--explain", "--plot", "space.xyz"], "--plot"),
        (["--explain", "--plot", "nowhere/space.png"], "--plot"),
        (["--workers", "0"], "Input should be greater than or equal to 1"),
        (["--timeout", "soon"], "--timeout: 'soon' is not a time"),
        (["--latency-command", "./measure.sh"], "--latency-command needs a limit"),
        (["--budget-macs", "1M"], "no candidate has 1.00M MACs or fewer"),
    ],
)
def test_an_error_is_one_message_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = t2tbuild(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr + done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_help_names_the_subcommands(tmp_path: Path) -> None:
    for arguments in (["--help"], ["-h"]):
        done = t2tbuild(*arguments, cwd=tmp_path)
        assert "search status RUN" in done.stdout
        assert "--budget-macs" in done.stdout
    assert "--trials" in t2tbuild("resume", "--help", cwd=tmp_path).stdout


def test_every_subcommand_is_suggested() -> None:
    group: Any = typer.main.get_command(app)
    _default, *subcommands = group.commands["search"].commands
    assert tuple(subcommands) == SUBCOMMANDS
