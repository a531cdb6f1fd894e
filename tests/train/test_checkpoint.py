"""Checkpoints that are cut, changed or half-written are found out, and the one before is used."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from t2tbuild.errors import TrainingError
from t2tbuild.train.checkpoint import KEPT, Checkpoint, load_newest, save_checkpoint


def make(number: int) -> Checkpoint:
    return Checkpoint({"w": torch.full((64, 64), float(number))}, {"state": {0: torch.ones(3)}}, {"epoch": number})


def epoch_of(folder: Path) -> int:
    checkpoint = load_newest(folder)
    assert checkpoint is not None
    assert checkpoint.model["w"].eq(checkpoint.progress["epoch"]).all()
    return int(checkpoint.progress["epoch"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        save_checkpoint(tmp_path, f"epoch-{number}", make(number))
    return tmp_path


def test_the_newest_is_read_and_two_are_kept(folder: Path) -> None:
    assert epoch_of(folder) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-2", "epoch-3"]
    assert KEPT == 2


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [flip, cut, zero, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "manifest.json"])
def test_a_harmed_checkpoint_is_passed_over(folder: Path, harm: object, name: str) -> None:
    assert callable(harm)
    if name == "manifest.json" and harm is flip:
        harm = cut  # a flipped bit may leave the JSON sound but for a digest, which is the case of the other files
    harm(folder / "epoch-3" / name)
    assert epoch_of(folder) == 2


def test_no_sound_checkpoint_is_said(folder: Path) -> None:
    for name in ("epoch-2", "epoch-3"):
        flip(folder / name / "model.safetensors")
    with pytest.raises(TrainingError, match=r"epoch-3: model.safetensors changed"):
        load_newest(folder)


def test_a_half_written_one_is_no_checkpoint(folder: Path) -> None:
    (folder / ".epoch-4.tmp").mkdir()
    (folder / ".epoch-4.tmp" / "model.safetensors").write_bytes(b"half")
    assert epoch_of(folder) == 3
    save_checkpoint(folder, "epoch-4", make(4))
    assert epoch_of(folder) == 4


def test_none_is_none(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "nothing") is None


def test_an_empty_manifest_is_no_manifest(folder: Path) -> None:
    (folder / "epoch-3" / "manifest.json").write_text("{}")
    assert epoch_of(folder) == 2


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from t2tbuild.errors import TrainingError
from t2tbuild.train.checkpoint import Checkpoint, load_newest, save_checkpoint

folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
save_checkpoint(folder, "epoch-1", Checkpoint({"w": torch.zeros(8)}, {}, {"epoch": 1}))
for model, optimizer in (({"w": torch.zeros(1000, 1000)}, {}), ({}, {"w": torch.zeros(1000, 1000)})):
    try:
        save_checkpoint(folder, "epoch-2", Checkpoint(model, optimizer, {"epoch": 2}))
    except TrainingError as error:
        assert "epoch-2 cannot be written" in str(error) and "too large" in str(error), error
    else:
        raise SystemExit("it was written after all")
assert load_newest(folder).progress == {"epoch": 1}
"""


def test_a_disk_that_takes_no_more_keeps_the_old_one(tmp_path: Path) -> None:
    """The kernel refuses to write beyond a limit, as it does on a full disk; for the weights and for the optimiser."""
    subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], check=True)
