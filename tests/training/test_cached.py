"""The cache of decoded images: made once, continued after a kill, and the same bits however it was made."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from t2tbuild.errors import InputError, TrainingError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import FolderData
from t2tbuild.training.data.cached import _open_by_index, choose_images, fingerprint, labels_of, load_cached
from t2tbuild.training.data.image_cache import CacheCallbacks, CacheProgress
from t2tbuild.training.data.in_memory import InMemoryData
from t2tbuild.training.data.python_datasets import PythonSource
from t2tbuild.training.sampler import EpochSampler
from tests.training.photos import write_photos

SIDE = 16
TRAIN, VALIDATION = 12, 6


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", train=TRAIN, validation=VALIDATION, classes=3)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2tbuild.training.data.image_cache.CHUNK_BYTES", 4 * 3 * SIDE * SIDE)  # four images


class Recorder:
    """What a cache reported; `stop_after` raises after that many images, as a kill would."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.progress: list[CacheProgress] = []
        self.notices: list[str] = []
        self.stop_after = stop_after

    def check(self) -> None:
        if len(self.progress) >= self.stop_after:
            raise KeyboardInterrupt

    @property
    def callbacks(self) -> CacheCallbacks:
        return CacheCallbacks(report=self.progress.append, check=self.check, notice=self.notices.append)


class Labelled(list[tuple[Any, int]]):
    """A dataset of images and labels, as torchvision has them."""

    def __init__(self, images: Any, labels: Any) -> None:
        super().__init__(zip(images, labels.tolist(), strict=True))
        self.targets = labels


def load(photos: Path, cache: Path, recorder: Recorder | None = None, **changes: Any) -> InMemoryData:
    images = changes.pop("images", 1000)
    spec = FolderData(root=str(photos), **{"workers": 2} | changes)
    return load_cached(
        spec,
        image=Grid(SIDE, SIDE),
        in_chans=3,
        device=torch.device("cpu"),
        images=images,
        seed=0,
        folder=cache,
        callbacks=(recorder or Recorder()).callbacks,
    )


def assert_same(one: InMemoryData, other: InMemoryData) -> None:
    """Assert that two data give the same batches, to the bit."""
    sampler = EpochSampler(one.size("train"), 4, seed=1)
    batches = (data.train_batches(sampler, epoch=0, step=0, epochs=2) for data in (one, other))
    for mine, its in zip(*batches, strict=True):
        assert torch.equal(mine[0], its[0])
        assert torch.equal(mine[1], its[1])
    assert (one.mean, one.std) == (other.mean, other.std)


def test_images_are_decoded_once(photos: Path, tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    before = load(photos, tmp_path / "cache", first)
    assert [(one.split, one.done, one.total) for one in first.progress[-1:]] == [("validation", VALIDATION, VALIDATION)]
    assert len(first.progress) == TRAIN + VALIDATION
    after = load(photos, tmp_path / "cache", second)
    assert not second.progress
    assert_same(before, after)
    images, labels = next(before.eval_batches("validation", rank=0, world_size=1, batch_size=100))
    assert images.shape == (VALIDATION, 3, SIDE, SIDE)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_mean_and_deviation_are_those_of_the_training_images(photos: Path, tmp_path: Path) -> None:
    data = load(photos, tmp_path / "cache")
    pixels = data.splits["train"].images.double() / 255
    assert data.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    assert data.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist())


@pytest.mark.usefixtures("small_chunks")
def test_a_killed_caching_continues_to_the_same_bits(photos: Path, tmp_path: Path) -> None:
    fresh = load(photos, tmp_path / "fresh")
    with pytest.raises(KeyboardInterrupt):
        load(photos, tmp_path / "cache", Recorder(stop_after=7))
    (log,) = tmp_path.glob("cache/*/chunks.jsonl")
    with log.open("a") as stream:
        stream.write('\n{"chunk": 1, "sha')  # as a kill while it is written leaves it
    rest = Recorder()
    continued = load(photos, tmp_path / "cache", rest)
    assert len(rest.progress) == TRAIN - 4 + VALIDATION
    assert_same(fresh, continued)


@pytest.mark.usefixtures("small_chunks")
def test_a_damaged_chunk_is_decoded_again(photos: Path, tmp_path: Path) -> None:
    fresh = load(photos, tmp_path / "cache")
    (images,) = tmp_path.glob("cache/train-*/images.u8")
    damaged = bytearray(images.read_bytes())
    damaged[5 * 3 * SIDE * SIDE] ^= 1
    images.write_bytes(damaged)
    again = Recorder()
    assert_same(load(photos, tmp_path / "cache", again), fresh)
    assert [one.done for one in again.progress] == [TRAIN - 3, TRAIN - 2, TRAIN - 1, TRAIN]


def test_a_changed_file_is_noticed(photos: Path, tmp_path: Path) -> None:
    before = load(photos, tmp_path / "cache")
    Image.new("RGB", (40, 40), "red").save(photos / "train" / "class0" / "0.png")
    recorder = Recorder()
    after = load(photos, tmp_path / "cache", recorder)
    assert ["train images have changed" in notice for notice in recorder.notices] == [True]
    assert not torch.equal(before.splits["train"].images[0], after.splits["train"].images[0])
    assert torch.equal(before.splits["validation"].images, after.splits["validation"].images)
    assert len(recorder.progress) == TRAIN


def _count_decoded(photos: Path, cache: Path, barrier: Any, counts: Any) -> None:
    barrier.wait(60)
    recorder = Recorder()
    load(photos, cache, recorder)
    counts.put(len(recorder.progress))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # from Python 3.12 on
def test_two_processes_make_one_cache(photos: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, counts = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_count_decoded, args=(photos, tmp_path / "cache", barrier, counts)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    decoded = [counts.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sum(decoded) == TRAIN + VALIDATION
    assert len(list(tmp_path.glob("cache/*/images.u8"))) == 2


def test_a_corrupt_training_image_is_replaced_and_named(photos: Path, tmp_path: Path) -> None:
    broken = photos / "train" / "class1" / "1.png"
    broken.write_bytes(b"no image")
    for _ in range(2):  # decoded, then from the cache
        data = load(photos, tmp_path / "cache")
        assert data.corrupt_images == (f"{broken} (not an image)",)
        assert data.size("train") == TRAIN
    with pytest.raises(TrainingError, match="skip_corrupt is 0") as error:
        load(photos, tmp_path / "cache", skip_corrupt=0)
    assert str(broken) in str(error.value)


def test_a_corrupt_validation_image_is_an_error(photos: Path, tmp_path: Path) -> None:
    broken = photos / "val" / "class1" / "1.png"
    broken.write_bytes(b"no image")
    with pytest.raises(TrainingError) as error:
        load(photos, tmp_path / "cache")
    assert str(broken) in str(error.value)


def test_held_out_images_count_as_training_images(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", train=30, validation=1, classes=3) / "train"
    spec = FolderData(root=str(photos), train=".", validation=None, holdout=0.2)
    broken = [Path(_open_by_index(spec, split, "RGB").name(1)) for split in ("train", "validation")]
    for path in broken:
        path.write_bytes(b"no image")
    settings: dict[str, Any] = {"train": ".", "validation": None, "holdout": 0.2}
    for _ in range(2):  # decoded, then from the cache
        data = load(photos, tmp_path / "cache", skip_corrupt=2, **settings)
        assert data.corrupt_images == tuple(f"{path} (not an image)" for path in broken)
        assert (data.size("train"), data.size("validation")) == (24, 6)
        with pytest.raises(TrainingError, match="2 training images cannot be read, and skip_corrupt is 1") as error:
            load(photos, tmp_path / "cache", skip_corrupt=1, **settings)
        assert str(broken[1]) in str(error.value)
        assert "whole split" not in str(error.value)


def test_a_hold_out_without_a_readable_image_is_an_error(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", train=9, validation=1, classes=3) / "train"
    settings: dict[str, Any] = {"train": ".", "validation": None, "holdout": 0.2}
    held = _open_by_index(FolderData(root=str(photos), **settings), "validation", "RGB")
    for index in range(len(held)):
        Path(held.name(index)).write_bytes(b"no image")
    with pytest.raises(TrainingError, match=r"no image of the validation split can be read; the last: .*not an image"):
        load(photos, tmp_path / "cache", **settings)


def test_corrected_labels_of_a_dataset_are_noticed() -> None:
    images = np.zeros((200, 8, 8), np.uint8)
    labels = np.arange(200) % 3
    sources = [PythonSource(Labelled(images, labels), "train") for _ in range(2)]
    before, same = (fingerprint(source, labels_of(source), Path()) for source in sources)
    labels[1] = 2  # none of the images that are read
    after = fingerprint(sources[0], labels_of(sources[0]), Path())
    assert before == same != after


def test_a_cache_that_cannot_be_written_is_an_input_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"search\.proxy\.cache"):
        load(photos, tmp_path / "file" / "cache")


def test_a_large_set_is_a_stratified_subset(photos: Path, tmp_path: Path) -> None:
    data = load(photos, tmp_path / "cache", images=6)
    assert torch.bincount(data.splits["train"].labels).tolist() == [2, 2, 2]
    about = [json.loads(path.read_text()) for path in tmp_path.glob("cache/train-*/about.json")]
    assert [(one["images"], one["seed"]) for one in about] == [(6, 0)]


@pytest.mark.parametrize(
    ("sizes", "limit", "wanted"),
    [((60, 30, 10), 10, [6, 3, 1]), ((97, 1, 1, 1), 10, [7, 1, 1, 1]), ((5, 5, 5), 4, [2, 1, 1]), ((2, 2, 2), 2, None)],
)
def test_each_class_keeps_its_share(sizes: tuple[int, ...], limit: int, wanted: list[int] | None) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    chosen = choose_images(len(labels), labels, limit, seed=3)
    assert len(set(chosen.tolist())) == limit
    assert chosen.tolist() == sorted(choose_images(len(labels), labels, limit, seed=3).tolist())
    if wanted:
        assert np.bincount(labels[chosen], minlength=len(sizes)).tolist() == wanted
    assert len(choose_images(len(labels), None, limit, seed=3)) == limit


def test_no_augmentation_where_the_data_have_none(photos: Path, tmp_path: Path) -> None:
    assert load(photos, tmp_path / "cache", augment=None).augment is None
    assert load(photos, tmp_path / "cache").augment is not None


def test_the_cache_does_not_depend_on_the_number_of_threads(photos: Path, tmp_path: Path) -> None:
    assert_same(load(photos, tmp_path / "one", workers=1), load(photos, tmp_path / "two", workers=2))
