"""Faults of a training's files: every file of a checkpoint damaged, swapped between runs or refused by the disk."""

import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from t2tbuild import load_spec, manifest, train
from t2tbuild.errors import TrainingError
from t2tbuild.files import atomic_write
from t2tbuild.training import checkpoint as checkpoint_module
from t2tbuild.training.checkpoint import Checkpoint, DiskError, find_latest_checkpoint, save_checkpoint
from t2tbuild.training.progress import Progress
from t2tbuild.training.run_directory import MetricsFile, read_json_lines
from tests.faults.attack import Attack
from tests.faults.disks import memory_disk, resize
from tests.faults.invariants import ROUNDS

FILES = ["config.json", "manifest.json", "model.safetensors", "progress.json", "state.pt", "trained.safetensors"]
PAGE = resource.getpagesize()
TINY = ["model.backbone.depth=1", "model.backbone.embed_dim=64", "train.data.image_size=16", "train.batch_size=512"]


def make(number: int) -> Checkpoint:
    weights = {"w": torch.full((64, 64), float(number))}
    state = {"s": torch.full((3,), float(number))}
    return Checkpoint(weights, state, {"epoch": number}, ema=weights, config=f'{{"a": {number}}}')


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    for number in (1, 2):
        save_checkpoint(tmp_path / "checkpoints", f"step-{number}", make(number))
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "step-2").iterdir()) == FILES
    return tmp_path / "checkpoints"


def flip_each_bit_of_a_byte(path: Path) -> Iterator[None]:
    data = path.read_bytes()
    for place in {0, len(data) // 3, len(data) - 1}:
        for bit in (1, 128):
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            yield
    path.write_bytes(data)


def truncate_at_each_length(path: Path) -> Iterator[None]:
    data = path.read_bytes()
    for length in {0, 1, len(data) // 2, len(data) - 1}:
        path.write_bytes(data[:length])
        yield
    path.write_bytes(data)


def swap(path: Path) -> Iterator[None]:
    """The file of a checkpoint of another run, all of whose files are different."""
    other = save_checkpoint(path.parents[2] / "other", "step-2", make(7))
    data = path.read_bytes()
    shutil.copyfile(other / path.name, path)
    assert path.read_bytes() != data
    yield
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [flip_each_bit_of_a_byte, truncate_at_each_length, swap])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_costs_its_checkpoint_alone(
    checkpoints: Path, name: str, damage: Callable[[Path], Iterator[None]], record_property: Callable[..., None]
) -> None:
    rounds = 0
    for _ in damage(checkpoints / "step-2" / name):
        rounds += 1
        latest, invalid = find_latest_checkpoint(checkpoints)
        assert latest == checkpoints / "step-1"
        assert len(invalid) == 1
    record_property(ROUNDS, rounds)
    assert rounds
    assert find_latest_checkpoint(checkpoints) == (checkpoints / "step-2", [])


@contextmanager
def limit(kind: int, value: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


class FullDisk:
    """A disk that says that it is full at one of the calls of a save that write."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def wrap(self, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            self.count += 1
            if self.count == self.at:
                raise OSError(28, "No space left on device")
            return function(*arguments, **options)

        return call


def save_on(disk: FullDisk, folder: Path, patch: pytest.MonkeyPatch) -> None:
    with patch.context() as inner:
        for name in ("save_file", "_fsync"):
            inner.setattr(f"t2tbuild.training.checkpoint.{name}", disk.wrap(getattr(checkpoint_module, name)))
        inner.setattr(torch, "save", disk.wrap(torch.save))
        inner.setattr(Path, "write_text", disk.wrap(Path.write_text))
        inner.setattr(Path, "mkdir", disk.wrap(Path.mkdir))
        inner.setattr(Path, "replace", disk.wrap(Path.replace))
        save_checkpoint(folder, "step-3", make(3))


def test_a_refused_write_at_each_call_of_a_save_keeps_the_earlier_checkpoints(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[..., None]
) -> None:
    disk = FullDisk(0)
    save_on(disk, checkpoints, monkeypatch)
    record_property(ROUNDS, disk.count)
    assert disk.count > 10
    shutil.rmtree(checkpoints / "step-3")
    save_checkpoint(checkpoints, "step-1", make(1))
    save_checkpoint(checkpoints, "step-2", make(2))
    for at in range(1, disk.count + 1):
        with pytest.raises(DiskError, match="No space left"):
            save_on(FullDisk(at), checkpoints, monkeypatch)
        latest, invalid = find_latest_checkpoint(checkpoints)
        assert invalid == []
        assert latest is not None
        assert latest.name in ("step-2", "step-3")  # the last fsync comes after the rename
        assert not [path for path in checkpoints.iterdir() if path.name.startswith(".")]
        shutil.rmtree(checkpoints / "step-3", ignore_errors=True)


def set_free(disk: Path, pages: int) -> None:
    """Fill a disk in memory to the last page, and then leave so many pages free."""
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(PAGE))
    os.truncate(disk / "filler", (disk / "filler").stat().st_size // PAGE * PAGE - pages * PAGE)
    found = os.statvfs(disk)
    assert found.f_bavail * found.f_frsize == pages * PAGE


@pytest.mark.slow
def test_a_disk_with_any_number_of_free_pages_keeps_the_earlier_checkpoints(
    tmp_path: Path, record_property: Callable[..., None]
) -> None:
    """Of a real disk, in memory. With each page more, the save comes further, at last to its end."""
    rounds = 0
    with memory_disk(tmp_path / "disk", "1m") as disk:
        folder = disk / "checkpoints"
        for number in (1, 2):
            save_checkpoint(folder, f"step-{number}", make(number))
        for pages in range(40):
            set_free(disk, pages)
            try:
                save_checkpoint(folder, "step-3", make(3))
                break
            except DiskError as error:
                rounds, reason = rounds + 1, str(error)
            assert "No space left on device" in reason
            assert find_latest_checkpoint(folder) == (folder / "step-2", [])
            assert sorted(path.name for path in folder.iterdir()) == ["step-1", "step-2"]
        assert find_latest_checkpoint(folder) == (folder / "step-3", [])
    record_property(ROUNDS, rounds)
    assert rounds > 10


@pytest.mark.slow
def test_a_training_whose_disk_is_full_goes_on_to_its_end(tmp_path: Path, attack: Attack) -> None:
    """Its first checkpoint does not fit on a real disk, in memory; with more space, the same command trains again."""
    with memory_disk(tmp_path / "disk", "300k") as disk:
        run = disk / "run"
        ended = attack.run("train", "t2t_vit_7", *TINY, "train.epochs=1", "--out", run)
        assert ended.code == 1
        assert "No space left on device" in ended.err
        assert "the last checkpoint could not be saved" in ended.err
        assert "test accuracy" in ended.out
        assert list((run / "checkpoints").iterdir()) == []
        resize(disk, "64m")
        again = train(load_spec("t2t_vit_7", [*TINY, "train.epochs=1"]), run)
        assert (again.epochs, again.unsaved) == (1, "")


def test_without_file_descriptors_nothing_is_lost(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("old")
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    with limit(resource.RLIMIT_NOFILE, 0):
        with pytest.raises(DiskError, match="Too many open files"):
            save_checkpoint(checkpoints, "step-3", make(3))
        with pytest.raises(OSError, match="Too many open files"):
            atomic_write(tmp_path / "notes", "new")
        with pytest.raises(OSError, match="Too many open files"):
            metrics.append({"a": 1})
    metrics.append({"b": 2})
    assert read_json_lines(metrics.path) == [{"a": 1}, {"b": 2}]
    assert (tmp_path / "notes").read_text() == "old"
    assert find_latest_checkpoint(checkpoints) == (checkpoints / "step-2", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "metrics.jsonl", "notes"]


FORGED = [
    {},
    {"epoch": "1"},
    {"epoch": 1.5},
    {"epoch": 1, "step": None},
    {"epoch": 1, "losses": 3},
    {"epoch": 1, "losses": ["x"]},
    {"epoch": 1, "best": ["../.."]},
    {"epoch": 1, "seconds": "long"},
    {"epoch": 1, "more": 1},
]


@pytest.mark.parametrize("values", FORGED[1:], ids=str)
def test_a_forged_progress_is_one_message(values: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="start a new run"):
        Progress.from_json(values)


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_one_message_and_a_link_is_a_run(tmp_path: Path) -> None:
    """A whole checkpoint with its manifest, swapped between two runs of other models; and a run behind a link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to("disk")
    spec = load_spec("t2t_vit_7", [*TINY, "train.epochs=1"])
    train(spec, tmp_path / "run")
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "disk" / "spec.yaml").is_file()
    train(load_spec("t2t_vit_7", [*TINY, "train.epochs=1", "model.backbone.mlp_ratio=3"]), tmp_path / "other")
    (checkpoint,) = (tmp_path / "disk" / "checkpoints").iterdir()
    (foreign,) = (tmp_path / "other" / "checkpoints").iterdir()
    shutil.rmtree(checkpoint)
    shutil.copytree(foreign, checkpoint)
    metrics = tmp_path / "disk" / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    metrics.write_text(lines[0] + '\n{"event": "epoch"}\n{"event": "epoch", "epoch": "x"}\n' + "[" * 100_000 + "\n")
    with pytest.raises(TrainingError, match="does not fit the spec of its run"):
        train(spec, tmp_path / "run")
    for forged in ({"epoch": "x"}, {"epoch": 1, "losses": 1}):
        (checkpoint / "progress.json").write_text(json.dumps(forged))
        manifest.write_manifest(checkpoint, [path.name for path in checkpoint.iterdir() if path.name != manifest.NAME])
        with pytest.raises(TrainingError, match="another version"):
            train(spec, tmp_path / "run")
    metrics.write_text('{"event": "result", "result": {"name": 1}}\n')
    with pytest.raises(TrainingError, match="its result is damaged"):
        train(spec, tmp_path / "run")
