"""Truncated, changed and incomplete checkpoints are detected, and the one before is used."""

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
from t2tbuild.training.checkpoint import (
    CHECKPOINTS_KEPT,
    Checkpoint,
    find_latest_checkpoint,
    hide_invalid_checkpoints,
    load_checkpoint,
    save_checkpoint,
)


def make(number: int) -> Checkpoint:
    return Checkpoint({"w": torch.full((64, 64), float(number))}, {"state": {0: torch.ones(3)}}, {"epoch": number})


def epoch_of(folder: Path) -> int:
    newest, _ = find_latest_checkpoint(folder)
    assert newest is not None
    checkpoint = load_checkpoint(newest)
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
    assert CHECKPOINTS_KEPT == 2


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [flip_bit, truncate, zero, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "manifest.json"])
def test_a_damaged_checkpoint_is_skipped(folder: Path, damage: object, name: str) -> None:
    assert callable(damage)
    if name == "manifest.json" and damage is flip_bit:
        damage = truncate  # a flipped bit may leave valid JSON with a wrong digest, as for the other files
    damage(folder / "epoch-3" / name)
    assert epoch_of(folder) == 2


def test_no_valid_checkpoint_raises(folder: Path) -> None:
    for name in ("epoch-2", "epoch-3"):
        flip_bit(folder / name / "model.safetensors")
    with pytest.raises(TrainingError, match=r"epoch-3: model.safetensors changed"):
        find_latest_checkpoint(folder)


def test_an_incomplete_checkpoint_is_ignored(folder: Path) -> None:
    (folder / ".epoch-4.tmp").mkdir()
    (folder / ".epoch-4.tmp" / "model.safetensors").write_bytes(b"half")
    assert epoch_of(folder) == 3
    save_checkpoint(folder, "epoch-4", make(4))
    assert epoch_of(folder) == 4


def test_the_best_one_is_kept_beside_the_newest(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        save_checkpoint(tmp_path, f"epoch-{number}", make(number), keep=["epoch-1"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-1", "epoch-3", "epoch-4"]


def test_invalid_checkpoints_do_not_count_as_kept(folder: Path) -> None:
    """Two later ones are invalid; training continues from the oldest, and its next save must not delete that one."""
    save_checkpoint(folder, "epoch-4", make(4), keep=["epoch-2"])
    for name in ("epoch-3", "epoch-4"):
        flip_bit(folder / name / "model.safetensors")
    newest, broken = find_latest_checkpoint(folder)
    assert newest == folder / "epoch-2"
    assert len(broken) == 2
    hide_invalid_checkpoints(folder, newest)
    save_checkpoint(folder, "epoch-2b", Checkpoint(make(2).model, {}, {"epoch": 2}))
    found, broken = find_latest_checkpoint(folder)
    assert (found, broken) == (folder / "epoch-2b", [])
    assert {path.name for path in folder.iterdir() if path.name[0] != "."} == {"epoch-2", "epoch-2b"}


def test_other_folders_are_left_unchanged(folder: Path) -> None:
    (folder / "a-note").mkdir()
    (folder / "a-note" / "text").write_text("mine")
    save_checkpoint(folder, "epoch-4", make(4))
    assert (folder / "a-note" / "text").read_text() == "mine"


def test_a_checkpoint_replaces_one_of_the_same_name(folder: Path) -> None:
    flip_bit(folder / "epoch-3" / "state.pt")
    assert epoch_of(folder) == 2
    save_checkpoint(folder, "epoch-3", make(3))
    assert epoch_of(folder) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-2", "epoch-3"]


def test_averaged_weights_are_in_model_safetensors_and_trained_ones_beside_it(tmp_path: Path) -> None:
    trained, average = {"w": torch.ones(2)}, {"w": torch.zeros(2)}
    path = save_checkpoint(tmp_path, "epoch-1", Checkpoint(trained, {}, {"epoch": 1}, ema=average))
    assert load_file(path / "model.safetensors")["w"].eq(0).all()
    found = load_checkpoint(path)
    assert found.ema is not None
    assert found.ema["w"].eq(0).all()
    assert found.model["w"].eq(1).all()
    flip_bit(path / "trained.safetensors")
    with pytest.raises(TrainingError, match=r"trained\.safetensors changed"):
        find_latest_checkpoint(tmp_path)


def test_a_checkpoint_that_would_run_code_is_not_read(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {folder / 'ran'}",)

    with (folder / "epoch-3" / "state.pt").open("wb") as stream:
        pickle.dump(Evil(), stream)
    manifest.write_manifest(
        folder / "epoch-3", ["model.safetensors", "progress.json", "state.pt"]
    )  # the sums don't protect against this
    newest, _ = find_latest_checkpoint(folder)
    assert newest is not None
    with pytest.raises(TrainingError, match="epoch-3: cannot be read"):
        load_checkpoint(newest)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b"])
def test_a_manifest_cannot_name_files_elsewhere(folder: Path, name: str) -> None:
    path = folder / "epoch-3" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: "0"}))
    newest, broken = find_latest_checkpoint(folder)
    assert newest == folder / "epoch-2"
    assert "files of other folders" in broken[0]


def test_without_checkpoints_there_is_no_latest(tmp_path: Path) -> None:
    assert find_latest_checkpoint(tmp_path / "nothing") == (None, [])


def test_an_empty_manifest_is_no_manifest(folder: Path) -> None:
    (folder / "epoch-3" / "manifest.json").write_text("{}")
    assert epoch_of(folder) == 2


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from t2tbuild.errors import TrainingError
from t2tbuild.training.checkpoint import Checkpoint, find_latest_checkpoint, save_checkpoint

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
        raise SystemExit("the checkpoint was written")
assert find_latest_checkpoint(folder)[0].name == "epoch-1"
assert [path.name for path in folder.iterdir()] == ["epoch-1"], "an incomplete checkpoint is left"
"""


@pytest.mark.slow
def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    """The kernel refuses to write beyond a limit, as on a full disk; for the weights and for the optimiser."""
    subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], check=True)
