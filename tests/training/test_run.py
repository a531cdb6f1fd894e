import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t2tbuild import load_search_spec, load_spec, train
from t2tbuild.errors import InputError, Terminated, TrainingError
from t2tbuild.training.checkpoint import find_latest_checkpoint, load_checkpoint
from t2tbuild.training.reports import EpochReport, Notice, Report, StepReport
from t2tbuild.training.run_directory import MetricsFile, read_json_lines
from tests.command import Running, start_python, start_t2tbuild

pytestmark = pytest.mark.slow

EPOCHS = 6
TINY = ["model.backbone.depth=1", "model.backbone.embed_dim=64", "train.data.image_size=16"]
TINY += [f"train.epochs={EPOCHS}", "train.batch_size=256"]


def figures(run: Path) -> list[dict[str, object]]:
    """The run's metrics without times and memory."""
    records = [record.get("result", record) for record in read_json_lines(run / "metrics.jsonl")]
    clocks = ("images_per_second", "memory", "seconds", "run")
    return [{key: value for key, value in record.items() if key not in clocks} for record in records]


def newest_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoints").iterdir())[-1] / "model.safetensors")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(load_spec("t2t_vit_7", TINY), run)
    return run


def test_a_run_is_a_directory(uninterrupted: Path) -> None:
    spec = load_spec(uninterrupted / "spec.yaml")
    assert (spec.model.image, spec.model.num_classes) == ((16, 16), 10)
    assert spec.train is not None
    environment = json.loads((uninterrupted / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    lines = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["epoch"] * EPOCHS + ["result"]
    assert lines[-2]["train_loss"] < lines[0]["train_loss"]
    assert len(newest_weights(uninterrupted)) > 10


def test_a_listener_gets_every_step_and_epoch(tmp_path: Path) -> None:
    reports: list[Report] = []
    train(load_spec("t2t_vit_7", [*TINY, "train.epochs=1"]), tmp_path / "run", listener=reports.append)
    notice, *others = reports
    assert isinstance(notice, Notice)
    assert "num_classes: 1000 of t2t_vit_7 is replaced by the 10 of the data" in notice.text
    assert [type(report) for report in others] == [StepReport] * 4 + [EpochReport]


def test_same_seed_same_bits(uninterrupted: Path, tmp_path: Path) -> None:
    train(load_spec("t2t_vit_7", TINY), tmp_path / "same")
    train(load_spec("t2t_vit_7", [*TINY, "train.seed=1"]), tmp_path / "other")
    wanted, same, other = map(newest_weights, (uninterrupted, tmp_path / "same", tmp_path / "other"))
    assert all(torch.equal(wanted[key], same[key]) for key in wanted)
    assert any(not torch.equal(wanted[key], other[key]) for key in wanted)


def start(run: Path) -> Running:
    """Start a training process and return it once its first epoch is on disk."""
    process = start_t2tbuild("train", "t2t_vit_7", *TINY, "--out", str(run))
    deadline = time.monotonic() + 60
    while not list((run / "checkpoints").glob("step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def test_a_killed_run_continues_to_the_same_bits(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    reports: list[Report] = []
    train(load_spec("t2t_vit_7", TINY), run, listener=reports.append)
    epochs = [report.epoch for report in reports if isinstance(report, EpochReport)]
    assert 1 not in epochs
    assert epochs[-1] == EPOCHS
    wanted, found = newest_weights(uninterrupted), newest_weights(run)
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert figures(uninterrupted) == figures(run)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_the_step_saves_it_and_prints_the_command_that_continues(
    tmp_path: Path, number: int, status: int
) -> None:
    run = tmp_path / "run"
    process = start(run)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the run ended before the signal came")
    assert process.returncode == status
    assert out == ""
    assert f"\nt2tbuild train {run}\n" in err
    assert f"{run}/checkpoints/step-" in err
    assert "Traceback" not in err
    newest, _ = find_latest_checkpoint(run / "checkpoints")
    assert newest is not None
    progress = load_checkpoint(newest).progress
    assert newest.name == f"step-{progress['epoch'] * 4 + progress['step']:09}"


@pytest.mark.parametrize(("last", "next_step"), [(6, (1, 3)), (4, (1, 1)), (4 * EPOCHS, None)])
def test_an_interrupt_in_the_middle_or_at_the_end_of_an_epoch_loses_no_step(
    uninterrupted: Path, tmp_path: Path, last: int, next_step: tuple[int, int] | None
) -> None:
    """Also after the last step of an epoch, and of the training, before the evaluation."""
    steps = 0

    def interrupt(report: Report) -> None:
        nonlocal steps
        steps += isinstance(report, StepReport)
        if steps == last and isinstance(report, StepReport):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(Terminated):
            train(load_spec("t2t_vit_7", TINY), tmp_path / "run", listener=interrupt)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())[-1] == f"step-{last:09}"
    reports: list[Report] = []
    train(load_spec("t2t_vit_7", TINY), tmp_path / "run", listener=reports.append)
    first = next((report for report in reports if isinstance(report, StepReport)), None)
    assert (first and (first.epoch, first.step)) == next_step
    wanted, found = newest_weights(uninterrupted), newest_weights(tmp_path / "run")
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert figures(uninterrupted) == figures(tmp_path / "run")


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """The first signal comes while a step hangs."""
    code = (
        "import os, signal, sys, time; from t2tbuild import load_spec, train\n"
        "def listener(_): print('step', flush=True); [time.sleep(0.1) for _ in range(600)]\n"
        f"train(load_spec('t2t_vit_7', {TINY!r}), {str(tmp_path / 'run')!r}, listener=listener)"
    )
    process = start_python(code)
    process.wait_for("step\n", stream="stdout")
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in err


def test_a_complete_run_only_returns_its_result(uninterrupted: Path) -> None:
    before = (uninterrupted / "metrics.jsonl").read_text()
    reports: list[Report] = []
    result = train(load_spec("t2t_vit_7", TINY), uninterrupted, listener=reports.append)
    assert reports == [Notice(f"{uninterrupted} is complete")]
    assert (uninterrupted / "metrics.jsonl").read_text() == before
    assert result.epochs == EPOCHS


def test_a_run_of_another_spec_raises_with_the_difference(uninterrupted: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)another spec.*-.*lr: 0.001.*\+.*lr: 0.01"):
        train(load_spec("t2t_vit_7", [*TINY, "train.lr=0.01"]), uninterrupted)


def test_a_folder_with_other_files_raises(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="choose another --out"):
        train(load_spec("t2t_vit_7", TINY), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_folder_in_use_raises(tmp_path: Path) -> None:
    process = start(tmp_path / "run")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(InputError, match="another process uses it"):
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

    monkeypatch.setattr("t2tbuild.training.train_state.train_step", diverge)
    with pytest.raises(TrainingError, match="loss is nan at step"):
        train(load_spec("t2t_vit_7", TINY), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000004"]


def test_a_learning_rate_that_is_too_high_raises_and_leaves_finite_checkpoints(tmp_path: Path) -> None:
    wild = [
        "train.optimizer=sgd",
        "train.lr=10",
        "train.clip_grad=null",
        "train.warmup_epochs=0",
        "train.weight_decay=10",
        "train.save_every=0.01",
    ]
    with pytest.raises(TrainingError, match="a lower lr"):
        train(load_spec("t2t_vit_7", [*TINY, *wild]), tmp_path / "run")
    for weights in (tmp_path / "run").rglob("model.safetensors"):
        assert all(value.isfinite().all() for value in load_file(weights).values())


LITTLE_MEMORY = """
import resource, sys
import torch
from t2tbuild import load_search_spec, load_spec, train
import timm.data, timm.optim, timm.scheduler, t2tbuild.timm_registry, t2tbuild.training.trainer, sklearn.datasets
from t2tbuild.errors import TrainingError

torch.set_num_threads(1)
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 1_500_000_000,) * 2)
spec = load_spec("t2t_vit_7", ["train.data.image_size=64", "train.batch_size=1024"])
try:
    train(spec, sys.argv[1])
except TrainingError as error:
    print(error)
"""


def test_out_of_memory_suggests_a_batch_size(tmp_path: Path) -> None:
    """A failure of the CPU's allocator, in a process with a memory limit."""
    message, errors = start_python(LITTLE_MEMORY, str(tmp_path / "run")).communicate(timeout=120)
    assert not errors
    found = re.fullmatch(
        r"out of memory; a pass of 1,024 images was too large, (half as many|an estimated \d+) should fit: write "
        r"train\.accumulate=(\d+) for the same batch in more passes, or train\.batch_size=(\d+)\n",
        message,
    )
    assert found, message
    passes, images = int(found[2]), int(found[3])
    assert 1024 % passes == 0
    assert 1024 // passes <= images <= 512


FULL_DISK = """
import resource, signal, sys
from t2tbuild.cli import main

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.argv = ["t2tbuild", *sys.argv[1:]]
main()
"""


def test_on_a_full_disk_training_goes_on_to_its_end(tmp_path: Path) -> None:
    """The kernel refuses to write large files, as it does on a full disk."""
    run = tmp_path / "run"
    process = start_python(FULL_DISK, "train", "t2t_vit_7", *TINY, "train.epochs=2", "--out", str(run))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.count("training continues") == 2
    assert "File too large" in err
    assert "test accuracy" in out
    assert "the last checkpoint could not be saved" in err
    assert list((run / "checkpoints").iterdir()) == []
    again = train(load_spec("t2t_vit_7", [*TINY, "train.epochs=2"]), run)  # the disk has space again
    assert (again.epochs, again.unsaved) == (2, "")


def test_an_incomplete_line_of_the_metrics_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.append({"a": 1})
    with path.open("a") as stream:
        stream.write('{"b": ')
    metrics.append({"c": 3})
    metrics.append({"d": 4})
    assert read_json_lines(path) == [{"a": 1}, {"c": 3}, {"d": 4}]


def test_a_line_that_the_disk_refuses_is_written_with_the_next(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "not-yet" / "metrics.jsonl")
    with pytest.raises(OSError, match="No such file"):
        metrics.append({"a": 1})
    (tmp_path / "not-yet").mkdir()
    metrics.append({"b": 2})
    assert read_json_lines(metrics.path) == [{"a": 1}, {"b": 2}]


@pytest.mark.nightly
def test_a_training_on_digits_reaches_95_percent(tmp_path: Path) -> None:
    """A small model on small images, in seconds; benchmarks/learning.py has the shipped recipe."""
    small = ["model.backbone.depth=2", "model.backbone.embed_dim=128"]
    small += ["train.data.image_size=16", "train.epochs=12", "train.batch_size=32"]
    result = train(load_spec("t2t_vit_7", small), tmp_path / "run")
    assert result.test_accuracy >= 0.95


@pytest.mark.parametrize(
    ("given", "kind", "instead"),
    [
        (load_spec("t2t_vit_7").model, "ModelSpec", "Spec(version=1, model=model_spec)"),
        (load_search_spec("deep_narrow"), "SearchSpec", "search()"),
        ("t2t_vit_7", "str", 'train(load_spec("t2t_vit_7"))'),
        (Path("spec.yaml"), "PosixPath", 'train(load_spec("spec.yaml"))'),
        ({"model": {}}, "dict", "load_spec()"),
    ],
)
def test_something_else_than_a_spec_raises(given: object, kind: str, instead: str) -> None:
    with pytest.raises(InputError) as error:
        train(given)  # type: ignore[arg-type]
    assert f"spec is a {kind}, expected a Spec" in str(error.value)
    assert instead in str(error.value)
