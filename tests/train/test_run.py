import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t2tbuild import load_spec, train
from t2tbuild.errors import InputError, TrainingError
from t2tbuild.train.run import EpochReport, StepReport
from t2tbuild.train.run_directory import append_json, read_json_lines

TINY = ["model.backbone.depth=1", "train.data.image_size=16", "train.epochs=20", "train.batch_size=256"]


def newest_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoints").iterdir())[-1] / "model.safetensors")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    train(load_spec("t2t_vit_7", TINY), run)
    return run


def test_a_run_is_a_directory(unbroken: Path) -> None:
    spec = load_spec(unbroken / "spec.yaml")
    assert (spec.model.image, spec.model.num_classes) == ((16, 16), 10)
    assert spec.train is not None
    environment = json.loads((unbroken / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    lines = [json.loads(line) for line in (unbroken / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["epoch"] * 20 + ["result"]
    assert lines[19]["train_loss"] < lines[0]["train_loss"]
    assert len(newest_weights(unbroken)) > 10


def test_listeners_hear_every_step_and_epoch(tmp_path: Path) -> None:
    heard: list[StepReport | EpochReport] = []
    train(load_spec("t2t_vit_7", [*TINY, "train.epochs=1"]), tmp_path / "run", listener=heard.append)
    assert [type(report) for report in heard] == [StepReport] * 4 + [EpochReport]


def test_same_seed_same_bits(unbroken: Path, tmp_path: Path) -> None:
    train(load_spec("t2t_vit_7", TINY), tmp_path / "same")
    train(load_spec("t2t_vit_7", [*TINY, "train.seed=1"]), tmp_path / "other")
    wanted, same, other = map(newest_weights, (unbroken, tmp_path / "same", tmp_path / "other"))
    assert all(torch.equal(wanted[key], same[key]) for key in wanted)
    assert any(not torch.equal(wanted[key], other[key]) for key in wanted)


COMMAND = [sys.executable, "-m", "t2tbuild", "train", "t2t_vit_7", *TINY, "--out"]


def start(run: Path) -> subprocess.Popen[str]:
    """A real training process, once its first epoch is on disk."""
    process = subprocess.Popen([*COMMAND, str(run)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((run / "checkpoints").glob("epoch-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def test_a_killed_run_continues_to_the_same_bits(unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    heard: list[StepReport | EpochReport] = []
    train(load_spec("t2t_vit_7", TINY), run, listener=heard.append)
    epochs = [report.epoch for report in heard if isinstance(report, EpochReport)]
    assert 1 not in epochs
    assert epochs[-1] == 20
    wanted, found = newest_weights(unbroken), newest_weights(run)
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_prints_the_command_that_continues(tmp_path: Path, number: int, status: int) -> None:
    run = tmp_path / "run"
    process = start(run)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the run ended before the signal came")
    assert process.returncode == status
    assert out == ""
    assert f"--out {run}" in err
    assert "Traceback" not in err


def test_a_complete_run_is_only_reported(unbroken: Path) -> None:
    before = (unbroken / "metrics.jsonl").read_text()
    result = train(load_spec("t2t_vit_7", TINY), unbroken)
    assert (unbroken / "metrics.jsonl").read_text() == before
    assert result.epochs == 20


def test_a_run_of_another_spec_is_refused_with_the_difference(unbroken: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)another spec.*-.*lr: 0.001.*\+.*lr: 0.01"):
        train(load_spec("t2t_vit_7", [*TINY, "train.lr=0.01"]), unbroken)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="choose another --out"):
        train(load_spec("t2t_vit_7", TINY), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    process = start(tmp_path / "run")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(InputError, match="another process is at work"):
            train(load_spec("t2t_vit_7", TINY), tmp_path / "run")
    finally:
        process.kill()
        process.communicate()


def test_a_loss_that_is_not_finite_stops_and_the_last_epoch_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    def diverge(*_arguments: object, **_options: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return torch.tensor(float("nan") if steps > 4 else 1.0)  # four steps an epoch

    monkeypatch.setattr("t2tbuild.train.run.train_step", diverge)
    with pytest.raises(TrainingError, match="loss is nan at step 4"):
        train(load_spec("t2t_vit_7", TINY), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["epoch-000001"]


def test_a_full_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> torch.Tensor:
        return torch.empty(1 << 60)  # a real failure of the CPU's allocator

    monkeypatch.setattr("t2tbuild.train.run.train_step", full)
    with pytest.raises(TrainingError, match="out of memory"):
        train(load_spec("t2t_vit_7", TINY), tmp_path / "run")


def test_a_torn_line_of_the_metrics_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_json(path, {"a": 1})
    with path.open("a") as stream:
        stream.write('{"b": ')
    append_json(path, {"c": 3})
    append_json(path, {"d": 4})
    assert read_json_lines(path) == [{"a": 1}, {"c": 3}, {"d": 4}]


def test_digits_are_learnt(tmp_path: Path) -> None:
    """The promise of the README: t2t_vit_7 with its defaults reaches 95% on the test split."""
    result = train(load_spec("t2t_vit_7"), tmp_path / "run")
    assert result.test_accuracy >= 0.95
