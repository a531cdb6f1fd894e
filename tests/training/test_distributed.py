"""Several processes, started by torchrun, train as one, with gloo."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from t2tbuild import load_spec, train
from t2tbuild.errors import FieldError
from t2tbuild.training.checkpoint import find_latest_checkpoint, load_checkpoint
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.reports import ignore_report
from t2tbuild.training.resolve import resolve
from t2tbuild.training.run_directory import read_json_lines
from t2tbuild.training.trainer import Trainer

pytestmark = pytest.mark.slow

TINY = ["model.backbone.depth=1", "train.data.image_size=16", "train.batch_size=256"]
STILL = ["model.tokenizer.stages.0.attention={kind: performer, dropout: 0}"]
STILL += ["model.tokenizer.stages.1.attention={kind: performer, dropout: 0}"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


def command(run: Path, *changes: str) -> list[str]:
    port = 20_000 + os.getpid() % 20_000
    start = [*TORCHRUN, "--master-port", str(port), "-m", "t2tbuild", "train", "t2t_vit_7"]
    return [*start, *TINY, *changes, "--out", str(run)]


def begin(run: Path, *changes: str) -> subprocess.Popen[str]:
    """Start two ranks under torchrun and return once they have saved a checkpoint of their own."""
    before = set((run / "checkpoints").glob("step-*"))
    process = subprocess.Popen(command(run, *changes), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not set((run / "checkpoints").glob("step-*")) - before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def test_two_ranks_train_like_one(tmp_path: Path) -> None:
    """Without dropout, which differs between ranks, they average the gradients of the same batches."""
    changes = [*STILL, "train.epochs=2"]
    gpus = [sys.executable, "-m", "t2tbuild", "train", "t2t_vit_7", *TINY, *changes, "--gpus", "2", "--device", "cpu"]
    ended = subprocess.run([*gpus, "--out", tmp_path / "two"], capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("test accuracy") == 1
    assert ended.stderr.count("epoch 2/2") == 1
    train(load_spec("t2t_vit_7", [*TINY, *changes]), tmp_path / "one")
    one, two = (read_json_lines(tmp_path / run / "metrics.jsonl") for run in ("one", "two"))
    assert len(one) == len(two) == 3
    for mine, theirs in zip(one[:2], two[:2], strict=True):
        for figure in ("train_loss", "validation_loss"):
            assert mine[figure] == pytest.approx(theirs[figure], rel=1e-4)
        assert mine["validation_accuracy"] == pytest.approx(theirs["validation_accuracy"], abs=1 / 270)


@pytest.mark.nightly
def test_a_dead_rank_ends_the_job_and_the_same_command_continues_it_until_sigterm(tmp_path: Path) -> None:
    """A dead rank loses the steps since the last checkpoint; SIGTERM to torchrun ends the step, and saves it."""
    run = tmp_path / "run"
    process = begin(run, "train.epochs=1000")
    os.kill(workers_of(process)[1], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == 1
    newest, _ = find_latest_checkpoint(run / "checkpoints")
    assert newest is not None

    again = begin(run, "train.epochs=1000")
    again.send_signal(signal.SIGTERM)
    _, err = again.communicate(timeout=60)
    assert again.returncode != 0
    assert f"continues from {newest.parent}" in err
    assert "continue with:" in err
    assert err.count("interrupted;") == 1
    newer, broken = find_latest_checkpoint(run / "checkpoints")
    assert newer is not None
    assert broken == []
    progress = load_checkpoint(newer).progress
    assert newer.name == f"step-{progress['epoch'] * 4 + progress['step']:09}" > newest.name
    assert [line["epoch"] for line in read_json_lines(run / "metrics.jsonl")] == [*range(1, progress["epoch"] + 1)]


def test_a_batch_size_that_the_devices_do_not_divide_raises(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    spec = resolve(load_spec("t2t_vit_7", [*TINY, "train.batch_size=64"]))
    with pytest.raises(FieldError, match="batch_size 64 is not divisible by 3 devices"):
        Trainer(spec, tmp_path, DistributedContext(cpu, 0, 3), ignore_report, None)
    mixed = resolve(load_spec("t2t_vit_7", [*TINY, "train.batch_size=6", "train.mixup={}"]))
    with pytest.raises(FieldError, match="mixup pairs the images of a device, and each device has 3 of a batch"):
        Trainer(mixed, tmp_path, DistributedContext(cpu, 0, 2), ignore_report, None)


def test_a_single_rank_communicates_with_itself() -> None:
    alone = DistributedContext(torch.device("cpu"))
    assert (alone.all_reduce_sum([1.0, 2.0]), alone.all_gather("x"), alone.broadcast(3), alone.is_main) == (
        [1.0, 2.0],
        ["x"],
        3,
        True,
    )
