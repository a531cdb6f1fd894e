"""Datasets of a Python program: torch Datasets of (image, label), read as image files are."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Subset

from t2tbuild.errors import InputError
from t2tbuild.spec.data import AUTO, AnyData, Augmentation, PythonData, Streamed
from t2tbuild.spec.root import Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.units import plural
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.training.data.dataset import (
    EpochIndex,
    IndexedDataset,
    MapStyleSplit,
    Sample,
    error_reason,
)
from t2tbuild.training.data.loader import StreamedData
from t2tbuild.training.data.transforms import fork_rng
from t2tbuild.training.data_option import TRANSFORM_FIELDS
from t2tbuild.training.dataset_paths import default_augmentation
from t2tbuild.training.seeds import fold_in

CHANNELS = (1, 3, 4)
TOLERANCE = 0.05  # by which resizing may leave the range of 0 to 1


class LabelledImages(Protocol):
    """A torch Dataset with a length whose items are (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class PythonDatasets:
    """Training and validation images of your own, and test images if there are any.

    Each dataset has a length and items (image, label). An image is a PIL image, an array [H, W] or [H, W, C], or a
    tensor [C, H, W], of bytes or of floats from 0 to 1, before normalisation. It is resized, augmented and normalised
    as a file would be, by the fields of `train.data`. A label is a whole number from 0. Random numbers that a dataset
    draws from random, numpy or torch are functions of (seed, epoch, index).

    The number of classes is that of `classes` or `targets`, which torchvision's datasets have, also through Subset;
    otherwise pass `num_classes`. The names of the classes are those of `classes`.

    `augment=None` leaves training images as the dataset returns them, apart from their size: for datasets that augment
    by themselves. An Augmentation is taken as it is; auto takes that of the spec, else one by the number of images.

    Raises InputError for a dataset that has no length or no images, or whose first item is something else.
    """

    def __init__(
        self,
        train: LabelledImages,
        validation: LabelledImages,
        test: LabelledImages | None = None,
        *,
        num_classes: int | None = None,
        augment: Augmentation | Literal["auto"] | None = AUTO,
    ) -> None:
        sets = {"train": train, "validation": validation} | ({} if test is None else {"test": test})
        self.sources = {split: PythonSource(dataset, split) for split, dataset in sets.items()}
        self.augment = augment
        self.num_classes = num_classes or _count_classes(train)
        names = _names_of(train)
        self.label_names = names if len(names) == len(set(names)) == self.num_classes else None

    @classmethod
    def of(cls, data: "PythonDatasets | Sequence[LabelledImages]") -> "PythonDatasets":
        """Return datasets as PythonDatasets. Raises InputError unless they are two or three."""
        if isinstance(data, cls):
            return data
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise InputError("data: must be (train_set, val_set) or (train_set, val_set, test_set)")
        return cls(*data)

    def put_into(self, spec: Spec) -> Spec:
        """Return the spec with these datasets as its data. Transforms that it has for image files stay."""
        recipe = spec.train or TrainSpec()
        changes: dict[str, Any] = {"train": recipe.model_copy(update={"data": self.describe(recipe.data)})}
        if self.label_names is not None:
            classes = {"num_classes": self.num_classes, "label_names": self.label_names}
            changes["model"] = with_changes(spec.model, classes, f"trained on {plural(self.num_classes, 'class')}")
        return spec.model_copy(update=changes)

    def describe(self, current: AnyData) -> PythonData:
        """Return the record of these datasets, with the transforms that `current` has for image files."""
        kept = current.model_fields_set & {*TRANSFORM_FIELDS} if isinstance(current, Streamed) else set()
        sizes: dict[str, Any] = {f"{split}_images": len(source) for split, source in self.sources.items()}
        settings: dict[str, Any] = {"augment": AUTO} | {name: getattr(current, name) for name in kept}
        if self.augment != AUTO:
            settings["augment"] = self.augment
        if settings["augment"] == AUTO:
            settings["augment"] = default_augmentation(sizes["train_images"])
        return PythonData(num_classes=self.num_classes, **sizes, **settings)


class PythonSource:
    """The samples of a dataset of (image, label)."""

    def __init__(self, dataset: LabelledImages, split: str) -> None:
        self.dataset, self.split = dataset, split
        try:
            size = len(dataset)
        except TypeError:
            raise InputError(
                f"data: the {split} set has no length; pass a Dataset with __len__ and __getitem__"
            ) from None
        if not size:
            raise InputError(f"data: the {split} set is empty")
        try:
            with fork_rng(0):
                self.read(0)
        except Exception as error:  # whatever the dataset raises
            message = f"data: item 0 of the {split} set: {error_reason(error)}"
            raise InputError(f"{message}; expected (image, label)") from None

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def labels(self) -> np.ndarray[Any, Any] | None:
        """The labels of all samples by the dataset's `targets` or `labels`, without reading any; None if unknown."""
        return _labels_of(self.dataset)

    def name(self, index: int) -> str:
        return f"{self.split}[{index}]"

    def read(self, index: int) -> tuple[Image.Image, int]:
        item = self.dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise TypeError(f"it is a {type(item).__name__}, not a pair")
        image, label = item
        return to_image(image), to_label(label)


def to_image(value: Any) -> Image.Image:
    """Return a PIL image, an array or a tensor as a PIL image.

    Raises TypeError or ValueError for another shape, type or range of values.
    """
    if isinstance(value, Image.Image):
        return value
    if not isinstance(value, np.ndarray | torch.Tensor):
        raise TypeError(f"the image is a {type(value).__name__}, not a PIL image, an array or a tensor")
    pixels = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
    if pixels.ndim == 3:
        first, last = pixels.shape[0] in CHANNELS, pixels.shape[2] in CHANNELS
        if first and (isinstance(value, torch.Tensor) or not last):
            pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in CHANNELS):
        raise ValueError(f"the image has the shape {list(value.shape)}, not [H, W], [H, W, C] or [C, H, W]")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(_to_bytes(pixels)))


def to_label(value: Any) -> int:
    """Return a label as a whole number. Raises TypeError for a text, a float or a one-hot vector."""
    try:
        return operator.index(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError):  # item() of several numbers
        shape = list(getattr(value, "shape", ()))
        given = f"has the shape {shape}" if shape else f"is {value!r:.60} ({type(value).__name__})"
        raise TypeError(f"the label {given}, integer class index expected") from None


def _to_bytes(pixels: Any) -> Any:
    if pixels.dtype == np.uint8 or (pixels.dtype == np.uint16 and pixels.ndim == 2):
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    if np.issubdtype(pixels.dtype, np.integer) and 0 <= low <= high <= 255:
        return pixels.astype(np.uint8)
    if np.issubdtype(pixels.dtype, np.floating) and -TOLERANCE <= low <= high <= 1 + TOLERANCE:
        return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    values = f"the image has values from {low:.4g} to {high:.4g}"
    raise ValueError(f"{values}; return bytes, or floats from 0 to 1, before normalisation")


def _unwrap(dataset: Any) -> Iterator[Any]:
    """Yield a dataset, then the one of which it is a subset or a view, and so on."""
    while dataset is not None:
        yield dataset
        dataset = getattr(dataset, "dataset", None)


def _names_of(dataset: Any) -> tuple[str, ...]:
    """Return the names of the classes of a dataset; empty if it has none."""
    named = (one.classes for one in _unwrap(dataset) if getattr(one, "classes", None) is not None)
    return tuple(map(str, next(named, ())))


def _labels_of(dataset: Any) -> np.ndarray[Any, Any] | None:
    """Return the labels [N] of a dataset, or of the images of a Subset; None where it does not have them."""
    chosen: Any = slice(None)
    for one in _unwrap(dataset):
        labels = _own_labels(one)
        if labels is not None:
            of_subset: np.ndarray[Any, Any] = labels[chosen]
            return of_subset
        if not isinstance(one, Subset):
            return None
        chosen = np.asarray(one.indices)[chosen]
    return None


def _own_labels(dataset: Any) -> np.ndarray[Any, Any] | None:
    """Return the `targets` or `labels` [N] of a dataset; None where they are no whole numbers, one for each image."""
    known = getattr(dataset, "targets", None)
    if known is None:
        known = getattr(dataset, "labels", None)
    try:
        labels = np.asarray(known.cpu() if isinstance(known, torch.Tensor) else known)
        is_label = np.issubdtype(labels.dtype, np.integer) and labels.shape == (len(dataset),)
    except (TypeError, ValueError):  # lists of different lengths
        return None
    return labels.astype(np.int64) if is_label else None


def _count_classes(dataset: Any) -> int:
    """Return the number of classes of a dataset, or of that of which it is a subset."""
    for one in _unwrap(dataset):
        if getattr(one, "classes", None) is not None:
            return len(one.classes)
        labels = _own_labels(one)
        if labels is not None:
            return int(labels.max()) + 1
    message = "data: the number of classes is unknown: the train set has no `classes` and no `targets`"
    raise InputError(f"{message}; pass data=t2tbuild.training.PythonDatasets(train_set, val_set, num_classes=N)")


class _SeededDataset(IndexedDataset):
    """Samples whose reading may draw random numbers: they are functions of (seed, epoch, index) too."""

    def __getitem__(self, key: EpochIndex) -> Sample:
        with fork_rng(fold_in(self.seed, *key)):
            return super().__getitem__(key)


class PythonStreamedData(StreamedData):
    """The splits of a PythonDatasets. "test" is the validation split where there is no test set."""

    def __init__(self, datasets: PythonDatasets, spec: PythonData, **settings: Any) -> None:
        super().__init__(spec, **settings)
        self.sources = datasets.sources

    def _split(self, split: str) -> MapStyleSplit:
        source = self.sources.get(split) or self.sources["validation"]
        return MapStyleSplit(source, self._mode, self.spec.skip_corrupt, _SeededDataset)
