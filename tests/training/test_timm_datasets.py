"""Datasets that timm opens: exact by index, and without random access exact for the same workers and ranks."""

import importlib.util
import io
import json
import tarfile
from collections import Counter
from itertools import chain
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from t2tbuild.errors import FieldError, InputError, TrainingError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import TimmData
from t2tbuild.training.data.loader import StreamedData
from t2tbuild.training.sampler import EpochSampler

pytestmark = pytest.mark.slow

needs_webdataset = pytest.mark.skipif(not importlib.util.find_spec("webdataset"), reason="webdataset is not installed")
needs_datasets = pytest.mark.skipif(not importlib.util.find_spec("datasets"), reason="datasets is not installed")
SHARDS, EACH = 4, 6


def picture(number: int) -> bytes:
    """A gray image of brightness 10 x its number."""
    file = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), 10 * number, np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def numbers(batches: list) -> list[list[int]]:
    """Return the numbers of the images in each batch."""
    return [(images.mean((1, 2, 3)) * 255 / 10).round().int().tolist() for images, _ in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def write_shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """24 images in four shards; the label is the shard."""
    names = [f"train-{number:04}.tar" for number in range(SHARDS)]
    for shard, name in enumerate(names):
        members = {}
        for number in range(shard * EACH, (shard + 1) * EACH):
            members |= {f"{number:03}.jpg": picture(number), f"{number:03}.cls": str(shard).encode()}
        write_shard(tmp_path / name, members)
    split = {"name": "train", "num_samples": SHARDS * EACH, "filenames": names, "shard_lengths": [EACH] * SHARDS}
    splits = {"train": split, "validation": split | {"name": "validation"}}
    (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    return tmp_path


def streamed(spec: TimmData, *, workers: int = 0) -> StreamedData:
    return StreamedData(spec, image=Grid(16, 16), in_chans=3, workers=workers, device=torch.device("cpu"))


def wds(root: Path, **fields: object) -> TimmData:
    given = {
        "name": "wds/",
        "root": str(root),
        "num_classes": SHARDS,
        "mean": [0],
        "std": [1],
        "augment": None,
    } | fields
    return TimmData.model_validate(given | {"kind": "timm"})


def trained(
    data: StreamedData, *, epoch: int = 0, step: int = 0, epochs: int = 3, rank: int = 0, ranks: int = 1
) -> list:
    sampler = EpochSampler(num_samples=data.size("train"), batch_size=4, seed=1, rank=rank, world_size=ranks)
    return list(data.train_batches(sampler, epoch=epoch, step=step, epochs=epochs))


def same(ours: list, theirs: list) -> bool:
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(ours, theirs, strict=True))


@needs_webdataset
@pytest.mark.parametrize("workers", [1, 3])
def test_shards_are_read_the_same_from_any_start(shards: Path, workers: int) -> None:
    data = streamed(wds(shards, augment={}), workers=workers)
    whole = trained(data)
    assert len(whole) == 3 * 6
    assert same(trained(data, step=2), whole[2:])
    assert same(trained(data, epoch=1, step=5), whole[11:])
    assert same(trained(data, epoch=2), whole[12:])


@needs_webdataset
def test_every_epoch_has_all_shards_in_another_order(shards: Path) -> None:
    for workers in (0, 2):
        order = numbers(trained(streamed(wds(shards), workers=workers)))
        epochs = [flat(order[start : start + 6]) for start in (0, 6, 12)]
        assert all(sorted(epoch) == list(range(24)) for epoch in epochs)
        assert epochs[0] != epochs[1] != epochs[2]
    shares = [numbers(trained(streamed(wds(shards), workers=2), rank=rank, ranks=2, epochs=1)) for rank in range(2)]
    assert sorted(flat(shares[0] + shares[1])) == list(range(24))


@needs_webdataset
def test_shards_are_evaluated_once(shards: Path) -> None:
    for workers, ranks in ((0, 1), (2, 1), (3, 2), (1, 4), (1, 5)):
        data = streamed(wds(shards), workers=workers)
        seen, labels = [], []
        for rank in range(ranks):
            batches = list(data.eval_batches("validation", rank=rank, world_size=ranks, batch_size=4))
            seen += flat(numbers(batches))
            labels += [int(label) for _, batch in batches for label in batch]
        assert sorted(seen) == list(range(24))
        assert labels == [number // EACH for number in seen]
    assert not active_children()


@needs_webdataset
def test_corrupt_images_in_shards(shards: Path, capfd: pytest.CaptureFixture[str]) -> None:
    members = {}
    for number in range(EACH, 2 * EACH):
        image = picture(number)[:100] if number == 8 else picture(number)
        members |= {f"{number:03}.jpg": image, f"{number:03}.cls": b"1"}
    write_shard(shards / "train-0001.tar", members)
    for workers in (0, 2):
        data = streamed(wds(shards), workers=workers)
        assert 8 not in flat(numbers(trained(data)))
        assert len(data.corrupt_images) == 1 and "train-0001.tar: 008 (" in data.corrupt_images[0]
        with pytest.raises(TrainingError, match=r"validation split cannot be read: .*train-0001.tar: 008 \("):
            list(data.eval_batches("validation", rank=0, world_size=1, batch_size=256))
    with pytest.raises(TrainingError, match="skip_corrupt is 0"):
        trained(streamed(wds(shards, skip_corrupt=0), workers=1))
    assert capfd.readouterr().err == ""


@needs_webdataset
@pytest.mark.parametrize("size", [0, 700, 5000])
def test_a_truncated_shard_is_skipped_and_reported(shards: Path, size: int, capfd: pytest.CaptureFixture[str]) -> None:
    path = shards / "train-0002.tar"
    path.write_bytes(path.read_bytes()[:size])
    data = streamed(wds(shards), workers=2)
    batches = trained(data)
    assert len(batches) == 3 * 6
    assert all(str(path) in name for name in data.corrupt_images)
    assert len(data.corrupt_images) == 1
    assert capfd.readouterr().err == ""


@needs_webdataset
def test_missing_and_invalid_shards_raise(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FieldError, match=r"no folder .*nowhere \(expected ROOT/\*\.tar"):
        streamed(wds(shards / "nowhere")).size("train")
    with pytest.raises(FieldError, match=r"timm cannot open wds/, split dev"):
        streamed(wds(shards, train="dev")).size("train")
    with pytest.raises(TrainingError, match=r"label [23], and the data have 2 classes"):
        trained(streamed(wds(shards, num_classes=2)))
    with pytest.raises(FieldError, match="4 shards for 5 devices"):
        trained(streamed(wds(shards)), ranks=5)
    (shards / "train-0002.tar").unlink()
    with pytest.raises(FieldError, match=r"no file .*train-0002\.tar"):
        streamed(wds(shards)).size("train")
    (shards / "_info.json").unlink()
    with pytest.raises(FieldError, match=r"no .*_info\.json"):
        streamed(wds(shards)).size("train")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs the package webdataset \(pip install 't2tbuild\[data\]'\)"):
        streamed(wds(shards)).size("train")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for split, count in (("train", 12), ("validation", 5)):
        for number in range(count):
            folder = tmp_path / "set" / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:02}.jpg").write_bytes(picture(number))
    return tmp_path


@needs_datasets
def test_a_hugging_face_dataset_is_exact(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fields = {"kind": "timm", "name": f"hfds/{folders / 'set'}", "root": str(folders / "cache"), "num_classes": 2}
    spec = TimmData.model_validate(fields | {"mean": [0], "std": [1]})
    data = streamed(spec)
    assert (data.size("train"), data.size("test")) == (12, 5)
    whole = trained(data)
    assert same(trained(streamed(spec, workers=2), step=2), whole[2:])
    batches = list(data.eval_batches("test", rank=0, world_size=1, batch_size=256))
    assert sorted(numbers(batches)[0]) == [0, 1, 2, 3, 4]
    assert batches[0][1].tolist() == [number % 2 for number in numbers(batches)[0]]
    with pytest.raises(FieldError, match="has 2 classes, and num_classes is 3"):
        streamed(spec.model_copy(update={"num_classes": 3})).size("train")
    with pytest.raises(FieldError, match=r"timm cannot open hfds/.*split dev"):
        streamed(spec.model_copy(update={"train": "dev"})).size("train")


@needs_datasets
def test_a_hugging_face_stream(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    made = folders / "parquet"
    made.mkdir()
    for shard in range(3):
        rows = [{"image": {"bytes": picture(n), "path": None}, "label": n % 2} for n in range(shard * 4, shard * 4 + 4)]
        datasets.Dataset.from_list(rows, features=features).to_parquet(made / f"train-{shard}-of-3.parquet")
    card = {"dataset_info": {"splits": [{"name": "train", "num_bytes": 1, "num_examples": 12}]}}
    (made / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    fields = {"kind": "timm", "name": f"hfids/{made}", "root": str(folders / "cache"), "num_classes": 2}
    spec = TimmData.model_validate(fields | {"mean": [0], "std": [1], "augment": None, "validation": "train"})
    data = streamed(spec, workers=5)  # reduced to three, one for each shard
    whole = trained(data, epochs=2)
    assert len(whole) == 6
    assert same(trained(data, epoch=1, step=1, epochs=2), whole[4:])
    assert numbers(whole[:3]) != numbers(whole[3:])
    assert torch.cat([labels for _, labels in whole]).tolist() == [number % 2 for number in flat(numbers(whole))]
    seen: Counter[int] = Counter()
    for rank in range(2):
        seen.update(flat(numbers(list(data.eval_batches("test", rank=rank, world_size=2, batch_size=256)))))
    assert seen == Counter(range(12))


def test_a_folder_of_torchvision(folders: Path) -> None:
    fields = {"kind": "timm", "name": "torch/image_folder", "root": str(folders / "set"), "num_classes": 2}
    spec = TimmData.model_validate(fields | {"mean": [0], "std": [1]})
    data = streamed(spec)
    assert same(trained(streamed(spec, workers=2), step=2), trained(data)[2:])
    assert numbers(list(data.eval_batches("validation", rank=0, world_size=1, batch_size=256))) == [[0, 2, 4, 1, 3]]
    (folders / "set" / "validation" / "b" / "01.jpg").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"validation/b/01\.jpg"):
        list(data.eval_batches("validation", rank=0, world_size=1, batch_size=256))
    with pytest.raises(FieldError, match=r"no folder .*set/dev \(expected ROOT/SPLIT/CLASS"):
        streamed(spec.model_copy(update={"train": "dev"})).size("train")
    with pytest.raises(FieldError, match="timm cannot open torch/cifar10"):
        streamed(spec.model_copy(update={"name": "torch/cifar10"})).size("train")
