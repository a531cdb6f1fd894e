"""Checkpoints that are cut, changed or half-written are found out, and the one before is used."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t2tbuild import manifest
from t2tbuild.errors import TrainingError
from t2tbuild.training.checkpoint import KEPT, Checkpoint, find_newest, read_checkpoint, save_checkpoint, set_aside


def make(number: int) -> Checkpoint:
    return Checkpoint({"w": torch.full((64, 64), float(number))}, {"state": {0: torch.ones(3)}}, {"epoch": number})


def epoch_of(folder: Path) -> int:
    newest, _ = find_newest(folder)
    assert newest is not None
    checkpoint = read_checkpoint(newest)
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
        find_newest(folder)


def test_a_half_written_one_is_no_checkpoint(folder: Path) -> None:
    (folder / ".epoch-4.tmp").mkdir()
    (folder / ".epoch-4.tmp" / "model.safetensors").write_bytes(b"half")
    assert epoch_of(folder) == 3
    save_checkpoint(folder, "epoch-4", make(4))
    assert epoch_of(folder) == 4


def test_the_best_one_is_kept_beside_the_newest(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        save_checkpoint(tmp_path, f"epoch-{number}", make(number), keep=["epoch-1"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-1", "epoch-3", "epoch-4"]


def test_broken_ones_are_not_taken_for_kept_ones(folder: Path) -> None:
    """Two newer ones are broken; training goes on from the oldest, and its next save must not delete what is sound."""
    save_checkpoint(folder, "epoch-4", make(4), keep=["epoch-2"])
    for name in ("epoch-3", "epoch-4"):
        flip(folder / name / "model.safetensors")
    newest, broken = find_newest(folder)
    assert newest == folder / "epoch-2"
    assert len(broken) == 2
    set_aside(folder, newest)
    save_checkpoint(folder, "epoch-2b", Checkpoint(make(2).model, {}, {"epoch": 2}))
    found, broken = find_newest(folder)
    assert (found, broken) == (folder / "epoch-2b", [])
    assert {path.name for path in folder.iterdir() if path.name[0] != "."} == {"epoch-2", "epoch-2b"}


def test_what_is_not_a_checkpoint_is_left_alone(folder: Path) -> None:
    (folder / "a-note").mkdir()
    (folder / "a-note" / "text").write_text("mine")
    save_checkpoint(folder, "epoch-4", make(4))
    assert (folder / "a-note" / "text").read_text() == "mine"


def test_a_checkpoint_written_again_replaces_the_one_of_that_name(folder: Path) -> None:
    flip(folder / "epoch-3" / "state.pt")
    assert epoch_of(folder) == 2
    save_checkpoint(folder, "epoch-3", make(3))
    assert epoch_of(folder) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-2", "epoch-3"]


def test_an_average_is_what_others_load_and_the_trained_weights_are_beside_it(tmp_path: Path) -> None:
    trained, average = {"w": torch.ones(2)}, {"w": torch.zeros(2)}
    path = save_checkpoint(tmp_path, "epoch-1", Checkpoint(trained, {}, {"epoch": 1}, averaged=average))
    assert load_file(path / "model.safetensors")["w"].eq(0).all()
    found = read_checkpoint(path)
    assert found.averaged is not None
    assert found.averaged["w"].eq(0).all()
    assert found.model["w"].eq(1).all()
    flip(path / "trained.safetensors")
    with pytest.raises(TrainingError, match=r"trained\.safetensors changed"):
        find_newest(tmp_path)


def test_a_checkpoint_that_would_run_code_is_not_read(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {folder / 'ran'}",)

    with (folder / "epoch-3" / "state.pt").open("wb") as stream:
        pickle.dump(Evil(), stream)
    manifest.write_manifest(folder / "epoch-3", ["model.safetensors", "progress.json", "state.pt"])  # sums are no seal
    newest, _ = find_newest(folder)
    assert newest is not None
    with pytest.raises(TrainingError, match="epoch-3: cannot be read"):
        read_checkpoint(newest)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b"])
def test_a_manifest_cannot_name_files_elsewhere(folder: Path, name: str) -> None:
    path = folder / "epoch-3" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: "0"}))
    newest, broken = find_newest(folder)
    assert newest == folder / "epoch-2"
    assert "elsewhere" in broken[0]


def test_none_is_none(tmp_path: Path) -> None:
    assert find_newest(tmp_path / "nothing") == (None, [])


def test_an_empty_manifest_is_no_manifest(folder: Path) -> None:
    (folder / "epoch-3" / "manifest.json").write_text("{}")
    assert epoch_of(folder) == 2


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from t2tbuild.errors import TrainingError
from t2tbuild.training.checkpoint import Checkpoint, find_newest, save_checkpoint

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
assert find_newest(folder)[0].name == "epoch-1"
assert [path.name for path in folder.iterdir()] == ["epoch-1"], "half of a checkpoint fills the disk further"
"""


def test_a_disk_that_takes_no_more_keeps_the_old_one(tmp_path: Path) -> None:
    """The kernel refuses to write beyond a limit, as it does on a full disk; for the weights and for the optimiser."""
    subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], check=True)
