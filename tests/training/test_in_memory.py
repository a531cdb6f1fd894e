"""Data on the device: fixed splits, batches that are functions of seed and position, CIFAR from its authors' files."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from t2tbuild.errors import FieldError, InputError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import AnyData, CifarData, DigitsData, FakeData
from t2tbuild.training.data import Data, load_data
from t2tbuild.training.dataset_paths import class_names
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.training.seeds import fold_in

CPU = torch.device("cpu")


def load(spec: AnyData, in_chans: int = 1, side: int = 32) -> Data:
    return load_data(spec, image=Grid(side, side), in_chans=in_chans, device=CPU)


def whole(data: Data, split: str) -> torch.Tensor:
    return torch.cat([images for images, _ in data.eval_batches(split, rank=0, world_size=1, batch_size=256)])  # type: ignore[arg-type]


def epoch(data: Data, seed: int, number: int, *, step: int = 0, batch_size: int = 64) -> torch.Tensor:
    sampler = EpochSampler(data.size("train"), batch_size, seed)
    return torch.cat([images for images, _ in data.train_batches(sampler, epoch=number, step=step, epochs=number + 1)])


def test_digits_have_fixed_stratified_disjoint_splits() -> None:
    data, again = load(DigitsData(image_size=8)), load(DigitsData(image_size=8))
    assert [data.size(split) for split in ("train", "validation", "test")] == [1257, 270, 270]
    assert torch.equal(whole(data, "test"), whole(again, "test"))
    seen = []
    for split in ("train", "validation", "test"):
        batches = list(data.eval_batches(split, rank=0, world_size=1, batch_size=256))
        share = torch.bincount(torch.cat([labels for _, labels in batches])) / data.size(split)
        assert (share - 0.1).abs().max() < 0.01
        seen.append({image.numpy().tobytes() for images, _ in batches for image in images})
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_images_have_the_requested_size_and_channels() -> None:
    images = whole(load(DigitsData(image_size=32), in_chans=3), "train")
    assert images.shape == (1257, 3, 32, 32)
    assert abs(images.mean().item()) < 0.02


def test_batches_are_a_function_of_seed_epoch_and_step() -> None:
    data = load(DigitsData(image_size=16))
    assert torch.equal(epoch(data, 1, 2), epoch(data, 1, 2))
    assert not torch.equal(epoch(data, 1, 2), epoch(data, 1, 3))
    assert not torch.equal(epoch(data, 1, 2), epoch(data, 2, 2))
    assert len(epoch(data, 0, 0)) == EpochSampler(1257, 64, 0).steps_per_epoch * 64 == 1216
    assert torch.equal(epoch(data, 1, 2, step=7), epoch(data, 1, 2)[7 * 64 :])


def test_training_continues_across_epochs() -> None:
    data, sampler = load(DigitsData(image_size=8)), EpochSampler(1257, 256, 0)
    both = [images for images, _ in data.train_batches(sampler, epoch=3, step=2, epochs=5)]
    assert torch.equal(
        torch.cat(both), torch.cat([epoch(data, 0, 3, batch_size=256)[512:], epoch(data, 0, 4, batch_size=256)])
    )


def test_augmentation_of_a_sample_does_not_depend_on_its_batch() -> None:
    data = load(DigitsData(image_size=16))
    torch.testing.assert_close(epoch(data, 0, 0, batch_size=8)[:8], epoch(data, 0, 0)[:8])


def test_augmentation_moves_images_and_can_be_switched_off() -> None:
    plain, moved = load(DigitsData(image_size=16, augment=False)), load(DigitsData(image_size=16))
    assert not torch.equal(epoch(plain, 0, 0), epoch(moved, 0, 0))
    known = {image.numpy().tobytes() for image in whole(plain, "train")}
    assert all(image.numpy().tobytes() in known for image in epoch(plain, 0, 0))


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_shares_of_ranks_make_up_the_batch_of_one(ranks: int) -> None:
    alone = EpochSampler(1000, 64, 5)
    for step in (0, alone.steps_per_epoch - 1):
        shares = [EpochSampler(1000, 64, 5, rank, ranks).indices(3, step) for rank in range(ranks)]
        assert [index for share in shares for index in share] == alone.indices(3, step)


def test_every_sample_comes_once_an_epoch() -> None:
    sampler = EpochSampler(100, 10, 0)
    indices = [index for step in range(sampler.steps_per_epoch) for index in sampler.indices(0, step)]
    assert sorted(indices) == list(range(100))


def test_a_batch_larger_than_the_split_is_the_split() -> None:
    assert (EpochSampler(10, 64, 0).steps_per_epoch, EpochSampler(10, 64, 0).local_batch_size) == (1, 10)
    assert EpochSampler(11, 64, 0, 0, 2).local_batch_size == 5


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_evaluation_sees_every_image_once_over_all_ranks(ranks: int) -> None:
    data = load(DigitsData(image_size=8))
    seen = [
        image.numpy().tobytes()
        for rank in range(ranks)
        for images, _ in data.eval_batches("test", rank=rank, world_size=ranks, batch_size=100)
        for image in images
    ]
    assert sorted(seen) == sorted(image.numpy().tobytes() for image in whole(data, "test"))


def test_folded_seeds_differ() -> None:
    assert len({fold_in(seed, epoch) for seed in range(50) for epoch in range(50)}) == 2500


def test_fake_images_are_noise_of_the_models_size() -> None:
    data = load_data(FakeData(num_classes=7, samples=8), image=Grid(24, 40), in_chans=2, device=CPU)
    images, labels = next(data.train_batches(EpochSampler(8, 4, 0), epoch=0, step=0, epochs=1))
    assert images.shape == (4, 2, 24, 40)
    assert 0 <= labels.min() <= labels.max() < 7
    assert (data.num_classes, data.size("train"), data.size("validation")) == (7, 8, 2)


def write_cifar(root: Path, *, fine: bool = False) -> Path:
    """Write files in the authors' format: bytes in rows, red first, pickled with Python 2's protocol."""
    noise = np.random.default_rng(0)
    folder = root / ("cifar-100-python" if fine else "cifar-10-batches-py")
    folder.mkdir()
    train, test = (("train",), "test") if fine else (tuple(f"data_batch_{n}" for n in range(1, 6)), "test_batch")
    for name in (*train, test):
        labels = list(range(100 if fine else 10)) * 2
        entry = {"data": noise.integers(0, 256, (len(labels), 3072), dtype=np.uint8)}
        entry |= {"fine_labels" if fine else "labels": labels}
        (folder / name).write_bytes(pickle.dumps(entry, protocol=2))
    return folder


def test_cifar_is_read_normalised_and_enlarged(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path)
    data = load(CifarData(kind="cifar10", root=str(tmp_path)), in_chans=3)
    raw = pickle.loads((folder / "test_batch").read_bytes())["data"][3].reshape(3, 32, 32)
    wanted = (torch.tensor(raw) / 255 - torch.tensor(data.mean)[:, None, None]) / torch.tensor(data.std)[:, None, None]
    torch.testing.assert_close(whole(data, "test")[3], wanted)
    assert [data.size(split) for split in ("train", "validation", "test")] == [100, 20, 20]
    large = load(CifarData(kind="cifar10", root=str(folder)), in_chans=3, side=56)
    assert whole(large, "test").shape == (20, 3, 56, 56)


def test_cifar_100_has_its_fine_labels(tmp_path: Path) -> None:
    write_cifar(tmp_path, fine=True)
    data = load(CifarData(kind="cifar100", root=str(tmp_path)), in_chans=3)
    _, labels = next(data.eval_batches("test", rank=0, world_size=1, batch_size=256))
    assert sorted(labels.tolist()) == sorted([*range(100), *range(100)])


@pytest.mark.parametrize("fine", [False, True])
def test_the_names_of_cifars_classes_are_those_of_its_meta_file(tmp_path: Path, fine: bool) -> None:
    folder = write_cifar(tmp_path, fine=fine)
    data = CifarData(kind="cifar100" if fine else "cifar10", root=str(tmp_path))
    assert class_names(data) is None
    names = tuple(f"class {number}" for number in range(data.num_classes))
    file, key = ("meta", "fine_label_names") if fine else ("batches.meta", "label_names")
    (folder / file).write_bytes(pickle.dumps({key: list(names), "coarse_label_names": ["a"]}, protocol=2))
    assert class_names(data) == names
    (folder / file).write_bytes(b"damaged")
    assert class_names(data) is None


def test_part_of_cifar_can_be_held_out(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    data = load(CifarData(kind="cifar10", root=str(tmp_path), holdout=0.2), in_chans=3)
    assert [data.size(split) for split in ("train", "validation", "test")] == [80, 20, 20]
    assert not {i.numpy().tobytes() for i in whole(data, "train")} & {
        i.numpy().tobytes() for i in whole(data, "validation")
    }


def test_cifar_is_shifted_and_flipped(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    still = load(CifarData(kind="cifar10", root=str(tmp_path), crop_padding=0, hflip=0), in_chans=3)
    mirrored = load(CifarData(kind="cifar10", root=str(tmp_path), crop_padding=0, hflip=1), in_chans=3)
    moved = load(CifarData(kind="cifar10", root=str(tmp_path), crop_padding=4, hflip=0), in_chans=3)
    assert torch.equal(epoch(still, 0, 0).flip(3), epoch(mirrored, 0, 0))
    for one, other in zip(epoch(still, 0, 0), epoch(moved, 0, 0), strict=True):
        found = [
            (down, across)
            for down in range(-4, 5)
            for across in range(-4, 5)
            if torch.equal(one.roll((down, across), (1, 2))[:, 4:-4, 4:-4], other[:, 4:-4, 4:-4])
        ]
        assert len(found) == 1


def test_missing_cifar_files_raise_with_the_expected_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FieldError, match=r"no file .*cifar-10-batches-py/data_batch_1.*expected .*Python version"):
        load(CifarData(kind="cifar10", root=str(tmp_path)), in_chans=3)
    write_cifar(tmp_path)
    monkeypatch.setenv("T2TBUILD_DATA", str(tmp_path))
    assert load(CifarData(kind="cifar10"), in_chans=3).size("train") == 100


def test_cifar_with_another_number_of_channels_raises(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="has 3 channels, and the model's images 1"):
        load(CifarData(kind="cifar10", root=str(tmp_path)))


class Evil:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_a_cifar_file_cannot_run_code(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path)
    (folder / "data_batch_2").write_bytes(pickle.dumps({"data": Evil(tmp_path / "ran"), "labels": [0]}))
    with pytest.raises(InputError, match=r"data_batch_2: not readable as a CIFAR file: it imports .*array"):
        load(CifarData(kind="cifar10", root=str(tmp_path)), in_chans=3)
    assert not (tmp_path / "ran").exists()


def test_a_truncated_cifar_file_raises_with_its_name(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path)
    (folder / "test_batch").write_bytes((folder / "test_batch").read_bytes()[:5000])
    with pytest.raises(InputError, match="test_batch: not readable"):
        load(CifarData(kind="cifar10", root=str(tmp_path)), in_chans=3)
