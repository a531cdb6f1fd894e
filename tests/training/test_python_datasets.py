"""train(spec, out, data=(train_set, val_set)): datasets of a Python program."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from t2tbuild import load_spec, train
from t2tbuild.errors import FieldError, InputError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import Augmentation, PythonData
from t2tbuild.training.data import load_data
from t2tbuild.training.data.python_datasets import PythonDatasets, PythonSource, to_image
from t2tbuild.training.run_directory import read_json_lines
from t2tbuild.training.sampler import EpochSampler

GRAY = np.arange(48, dtype=np.uint8).reshape(6, 8)
COLOURS = np.stack([GRAY, GRAY + 1, GRAY + 2], axis=2)


class Noise:
    """Images whose brightness is drawn at random at each reading, in three classes."""

    classes = ("a", "b", "c")

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = Image.new("RGB", (20, 24), (random.randrange(256), 80 * (index % 3), 0))
        return image, torch.tensor(index % 3)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Image.fromarray(COLOURS), COLOURS),
        (COLOURS, COLOURS),
        (COLOURS.transpose(2, 0, 1), COLOURS),
        (torch.tensor(COLOURS).permute(2, 0, 1), COLOURS),
        (torch.tensor(COLOURS).permute(2, 0, 1) / 255, COLOURS),
        (GRAY, GRAY),
        (torch.tensor(GRAY)[None].long(), GRAY),
        (GRAY > 20, (GRAY > 20) * 255),
    ],
)
def test_an_image_is_a_pil_image_an_array_or_a_tensor(value: Any, expected: Any) -> None:
    assert np.array_equal(np.asarray(to_image(value)), expected)


@pytest.mark.parametrize("value", [torch.randn(3, 8, 8) * 3, torch.zeros(5, 8, 8), "photo.jpg", np.zeros(8)])
def test_other_images_are_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="the image"):
        to_image(value)


def test_the_classes_are_found_or_asked_for() -> None:
    assert PythonDatasets(Noise(4), Noise(2)).num_classes == 3
    assert PythonDatasets(Subset(Noise(4), [0, 1]), Noise(2)).num_classes == 3  # type: ignore[arg-type]
    plain = TensorDataset(torch.zeros(4, 3, 8, 8), torch.arange(4))
    with pytest.raises(InputError, match="num_classes=N"):
        PythonDatasets(plain, plain)
    assert PythonDatasets(plain, plain, num_classes=4).num_classes == 4


class Targets(Noise):
    """A dataset with the labels of all images, in one of the forms that libraries use."""

    def __init__(self, targets: Any) -> None:
        super().__init__(6)
        self.targets = targets


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_the_labels_are_found_also_through_subsets(form: Any) -> None:
    dataset: Any = Targets(form([0, 1, 2, 0, 1, 2]))

    def labels(of: Any) -> list[int]:
        found = PythonSource(of, "train").labels
        assert found is not None
        return found.tolist()

    assert labels(dataset) == [0, 1, 2, 0, 1, 2]
    assert labels(Subset(dataset, [5, 3])) == [2, 0]
    assert labels(Subset(Subset(dataset, np.array([5, 3, 1])), [2, 0])) == [1, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize("targets", [None, [0, 1], ["a"] * 6, [[0, 1]] * 6, [[0]] * 5 + [0], [0.5] * 6])
def test_unknown_labels_are_none(targets: Any) -> None:
    dataset: Any = Targets(targets)
    assert PythonSource(dataset, "train").labels is None
    assert PythonSource(Subset(dataset, [1, 2]), "train").labels is None


def test_wrong_datasets_are_refused_with_the_set_and_what_it_returns() -> None:
    with pytest.raises(InputError, match=r"item 0 of the validation set: it is a Tensor.*expected \(image, label\)"):
        PythonDatasets(Noise(4), torch.zeros(4, 3))
    with pytest.raises(InputError, match="the train set has no length"):
        PythonDatasets(iter([]), Noise(2))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the validation set is empty"):
        PythonDatasets(Noise(4), Noise(0))
    with pytest.raises(InputError, match=r"must be \(train_set, val_set\)"):
        PythonDatasets.of(Noise(4))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("label", "given"),
    [
        (torch.eye(3)[1], r"the label has the shape \[3\]"),
        (np.eye(3)[1], r"the label has the shape \[3\]"),
        ([0, 1, 0], r"the label is \[0, 1, 0\] \(list\)"),
        ("cat", r"the label is 'cat' \(str\)"),
        (1.5, r"the label is 1.5 \(float\)"),
        (torch.tensor(1.0), r"the label is tensor\(1.\) \(Tensor\)"),
    ],
)
def test_a_label_that_is_no_class_index_is_refused_with_what_it_is(label: Any, given: str) -> None:
    data: Any = [(Image.new("RGB", (8, 8)), label)]
    with pytest.raises(InputError, match=f"item 0 of the train set: {given}, integer class index expected"):
        PythonDatasets(data, Noise(2))


def test_datasets_that_augment_by_themselves_turn_ours_off() -> None:
    spec = load_spec("t2t_vit_7", ["train.data={kind: folder, root: ., augment: {hflip: 0}}"])
    assert spec.train is not None

    def augment(**keywords: Any) -> object:
        return PythonDatasets(Noise(4), Noise(2), **keywords).describe(spec.train.data).augment  # type: ignore[union-attr]

    assert augment() == Augmentation(hflip=0)
    assert augment(augment=None) is None
    assert augment(augment=Augmentation(hflip=1)) == Augmentation(hflip=1)


def test_what_a_dataset_draws_at_random_is_a_function_of_epoch_and_index() -> None:
    datasets = PythonDatasets(Noise(8), Noise(2))
    spec = datasets.put_into(load_spec("t2t_vit_7")).train
    assert spec is not None
    sampler = EpochSampler(8, 4, 0)

    def first_batch(epoch: int, workers: int) -> torch.Tensor:
        own = spec.data.model_copy(update={"workers": workers})
        cpu = torch.device("cpu")
        data = load_data(own, image=Grid(16, 16), in_chans=3, device=cpu, datasets=datasets)
        return next(iter(data.train_batches(sampler, epoch=epoch, step=0, epochs=epoch + 1)))[0]

    assert torch.equal(first_batch(0, 0), first_batch(0, 2))
    assert not torch.equal(first_batch(0, 0), first_batch(1, 0))


@pytest.mark.slow
def test_a_training_on_datasets_resumes_and_the_command_line_refuses_it(tmp_path: Path) -> None:
    spec = load_spec("t2t_vit_7", ["model.backbone.depth=1", "train.epochs=1", "train.batch_size=6"])
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"image_size": 16})})
    data = Noise(12), Noise(6)
    result = train(spec, tmp_path / "run", data=data, device="cpu")
    stored = load_spec(tmp_path / "run" / "spec.yaml")
    assert stored.train is not None
    assert isinstance(stored.train.data, PythonData)
    assert (stored.model.num_classes, stored.model.image_size, stored.train.data.train_images) == (3, 16, 12)
    metrics = tmp_path / "run" / "metrics.jsonl"
    lines = read_json_lines(metrics)
    assert lines[-1]["result"]["validation_accuracy"] == result.validation_accuracy
    assert train(stored, tmp_path / "run", data=data, device="cpu").test_loss == result.test_loss  # is complete
    with pytest.raises(InputError, match="holds a run of another spec"):
        train(stored, tmp_path / "run", data=(Noise(18), Noise(6)), device="cpu")
    with pytest.raises(FieldError, match=r"train.data.kind: .*data=\(train_set, val_set\)"):
        train(stored, tmp_path / "other", device="cpu")
    assert not (tmp_path / "other").exists()
