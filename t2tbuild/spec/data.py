"""The data section of a spec: the dataset, its preprocessing and its augmentation."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from t2tbuild.spec.base import KIND_REQUIRED, ListAsTuple, Node, Violation, default_kind, lint, rule, unit
from t2tbuild.spec.model import Side

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Share = Annotated[int, Field(ge=0, le=1)] | Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0)]
Sides = Annotated[Side | tuple[Side, Side], ListAsTuple]

AUGMENT_PATTERN = r"^(rand|augmix|original|originalr|v0|v0r|3a)(-[a-z]+[a-z0-9.]*){0,8}$"
DATA_PATTERN = r"^(hfds|hfids|tfds|wds|torch)/[^\s]*$"


def _sides(image_size: int | tuple[int, int]) -> tuple[int, ...]:
    return (image_size,) if isinstance(image_size, int) else image_size


class DigitsData(Node):
    """scikit-learn's handwritten digits: 1,797 real images of 10 classes, included in the library.

    A fixed stratified split has 1,257 images for training, 270 for validation and 270 for test. The 8 x 8 images are
    resized to `image_size` and repeated over the model's input channels.
    """

    kind: Literal["digits"] = "digits"
    """scikit-learn's digits."""
    image_size: int = Field(default=64, ge=8, le=512, examples=[64], json_schema_extra=unit("pixels"))
    """Side of the square image; the trained model takes images of this size."""
    augment: bool = True
    """Whether training images are slightly shifted, rotated and scaled at random."""

    @property
    def num_classes(self) -> int:
        return 10

    @property
    def train_images(self) -> int:
        return 1257


class FakeData(Node):
    """Gaussian noise with random labels in device memory, for speed tests and dry runs."""

    model_config = KIND_REQUIRED

    kind: Literal["fake"] = "fake"
    """Gaussian noise."""
    image_size: Sides | None = Field(default=None, examples=[224, [192, 256]], json_schema_extra=unit("pixels"))
    """Side of the square image, or [height, width]; left out, the model's image size."""
    num_classes: int = Field(default=1000, ge=1, le=1_000_000, examples=[1000], json_schema_extra=unit("classes"))
    """Number of classes."""
    samples: int = Field(default=512, ge=1, le=10_000_000, examples=[512], json_schema_extra=unit("images"))
    """Number of training images; validation has a quarter as many."""

    @property
    def train_images(self) -> int:
        return self.samples


class CifarData(Node):
    """CIFAR-10 or CIFAR-100, from the files of its Python version. The images are held in device memory.

    Transforms as in the paper's transfer: resize to the model's image size, random crop with `crop_padding`, random
    horizontal flip.
    """

    model_config = KIND_REQUIRED

    kind: Literal["cifar10", "cifar100"]
    """CIFAR-10 or CIFAR-100."""
    root: str = Field(default=".", min_length=1, examples=["/data"])
    """Folder that contains cifar-10-batches-py or cifar-100-python, or that folder itself. A relative path is relative
    to the environment variable T2TBUILD_DATA if it is set, otherwise to the working folder."""
    image_size: Sides | None = Field(default=None, examples=[224, [192, 256]], json_schema_extra=unit("pixels"))
    """Side that images are resized to, or [height, width]; left out, the model's image size."""
    holdout: Share = Field(default=0, lt=1, examples=[0.1])
    """Fraction of the training images that is held out for validation, stratified. With 0, validation is on the test
    images, as in the paper."""
    crop_padding: int | None = Field(default=None, ge=0, le=4096, examples=[28], json_schema_extra=unit("pixels"))
    """Padding of the random crop of training images; left out, an eighth of the side, which is 28 at 224."""
    hflip: Share = Field(default=0.5, examples=[0.5])
    """Probability of a horizontal flip of a training image."""

    @rule
    def _crop_padding_below_side(self) -> Iterator[Violation]:
        sides = () if self.image_size is None else _sides(self.image_size)
        if self.crop_padding is not None and sides and self.crop_padding >= min(sides):
            message = f"crop_padding must be below image_size, got {self.crop_padding} and {min(sides)}"
            yield Violation("crop_padding", message, f"write {min(sides) // 8}, otherwise a crop may hold only padding")

    @property
    def num_classes(self) -> int:
        return 10 if self.kind == "cifar10" else 100

    @property
    def train_images(self) -> int:
        return round(50_000 * (1 - self.holdout))


class Augmentation(Node):
    """Augmentation of training images (Section 4.1 of the paper, with timm's transforms)."""

    crop_scale: Annotated[tuple[Share, Share], ListAsTuple] = Field(default=(0.08, 1), examples=[[0.08, 1.0]])
    """Smallest and largest fraction of the image's area in a random crop."""
    hflip: Share = Field(default=0.5, examples=[0.5])
    """Probability of a horizontal flip."""
    auto_augment: str | None = Field(
        default="rand-m9-mstd0.5-inc1", pattern=AUGMENT_PATTERN, examples=["rand-m9-mstd0.5-inc1"]
    )
    """RandAugment, AutoAugment or AugMix, in timm's notation; null for none."""
    color_jitter: Positive | None = Field(default=0.4, le=10, examples=[0.4])
    """Strength of colour jitter, which timm applies only if auto_augment is null."""
    random_erasing: Share = Field(default=0.25, examples=[0.25])
    """Probability of random erasing."""
    erasing_mode: Literal["pixel", "rand", "const"] = "pixel"
    """Values of the erased rectangle: noise for each pixel, one random colour, or zero."""

    @rule
    def _crop_scale_rises(self) -> Iterator[Violation]:
        low, high = self.crop_scale
        if not 0 < low <= high:
            message = f"crop_scale must rise from above 0, got {low} and {high}"
            yield Violation("crop_scale", message, "write [0.08, 1]")


class _Streamed(Node):
    """Images that loader workers read and decode during training."""

    image_size: Sides | None = Field(default=None, examples=[224, [192, 256]], json_schema_extra=unit("pixels"))
    """Side that images are resized to, or [height, width]; left out, the model's image size."""
    augment: Augmentation | None = Field(default=Augmentation(), examples=[{"random_erasing": 0.25}])
    """Augmentation of training images; null only resizes them."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """Interpolation of resizing. Augmented training crops use either one at random, as in timm."""
    crop_pct: Share = Field(default=0.9, gt=0, examples=[0.9])
    """Side of the evaluation centre crop over the side of the resized image."""
    mean: Annotated[tuple[int | float, ...], ListAsTuple] = Field(
        default=IMAGENET_MEAN, min_length=1, max_length=3, examples=[list(IMAGENET_MEAN)]
    )
    """Mean of each channel for normalisation, from 0 to 1: one for all channels or one for each."""
    std: Annotated[tuple[Positive, ...], ListAsTuple] = Field(
        default=IMAGENET_STD, min_length=1, max_length=3, examples=[list(IMAGENET_STD)]
    )
    """Standard deviation of each channel for normalisation."""
    workers: int | None = Field(default=None, ge=0, le=256, examples=[8], json_schema_extra=unit("processes"))
    """Loader workers of each device; left out, one per core, at most 8. The result of training does not depend on it,
    except for iterable timm datasets."""
    skip_corrupt: int = Field(default=10, ge=0, examples=[10], json_schema_extra=unit("images"))
    """Largest number of unreadable training images. Each is reported and replaced by a neighbour; one more ends the
    training. Unreadable images among those held out for validation are left out, and count too. In other evaluations,
    and in training with hfids/ or tfds/, the first one is an error."""

    @rule
    def _values_from_0_to_1(self) -> Iterator[Violation]:
        for field, values in (("mean", self.mean), ("std", self.std)):
            for index, value in enumerate(values):
                if not 0 <= value <= 1:
                    message = f"{field} must be from 0 to 1, got {value}"
                    yield Violation((field, index), message, f"write {value / 255 if 1 < value <= 255 else 0.5:.3g}")

    @rule
    def _mean_and_std_of_the_same_channels(self) -> Iterator[Violation]:
        if len(self.mean) != len(self.std):
            message = f"mean and std must list as many channels, got {len(self.mean)} and {len(self.std)}"
            yield Violation("std", message, "write one value for each channel in both, or one for all channels")


AUTO: Literal["auto"] = "auto"
"""Value of a field that is chosen by what the files are; the resolved spec has the choice."""

ALL = "all"
"""Split of a CSV file that is every line."""

HOLDOUT = 0.1
"""Fraction of the training images that is held out, if the spec does not say."""


def _names(value: object) -> object:
    """Read a list of class names; a name may look like a whole number, as the folders 1, 2, 10."""
    if not isinstance(value, list):
        return value
    return tuple(str(name) if type(name) is int else name for name in value)


class _UserImages(_Streamed):
    """Image files of the user, whose classes and number are found from the files."""

    if TYPE_CHECKING:  # fields of each kind, with a default and a description of its own
        train: str
        validation: str | None
        test: str | None

    augment: Augmentation | Literal["auto"] | None = Field(  # type: ignore[assignment]  # wider than for other data
        default=AUTO, examples=["auto", {"random_erasing": 0.25}]
    )
    """Augmentation of training images; null only resizes them. auto: ImageNet's from 100,000 training images on, below
    that only crops of at least half of the area and horizontal flips; the resolved spec has what was taken."""
    holdout: Share | None = Field(default=None, gt=0, lt=1, examples=[0.1])
    """Fraction of the training images that is held out for validation where no images are named for it: of each class
    its share, at least one image; the same images in every run. Left out, 0.1."""
    classes: Annotated[str | tuple[str, ...] | None, BeforeValidator(_names)] = Field(
        default=None, min_length=1, examples=["classes.txt", ["cat", "dog"]]
    )
    """Names of the classes in the order of their labels: a list, or a file below root with one name a line. Images of
    other classes are left out. Left out itself, all classes, sorted."""

    @rule
    def _no_class_twice(self) -> Iterator[Violation]:
        names = self.classes if isinstance(self.classes, tuple) else ()
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Violation(("classes", index), f"{name} is listed twice", "remove one of them")

    @rule
    def _holdout_without_validation(self) -> Iterator[Violation]:
        if self.holdout is not None and self.validation not in (None, AUTO):
            message = f"holdout is {self.holdout}, and validation names images of its own, {self.validation}"
            yield Violation("holdout", message, "remove one of them")

    @lint
    def _validation_differs_from_training(self) -> Iterator[Violation]:
        yield from _evaluated_on_training_split(self.train, {"validation": self.validation, "test": self.test})


class FolderData(_UserImages):
    """A folder with one folder per class: ROOT/train/CLASS/*.jpg and ROOT/val/CLASS/*.jpg, or ROOT/CLASS/*.jpg.

    The classes are the sorted names of the folders, unless `classes` has another order. Hidden folders, and those of
    systems such as @eaDir, are ignored.
    """

    model_config = KIND_REQUIRED

    kind: Literal["folder"] = "folder"
    """A folder with one folder per class."""
    root: str = Field(min_length=1, examples=["/data/imagenet"])
    """Folder of the splits. A relative path is relative to the environment variable T2TBUILD_DATA if it is set,
    otherwise to the working folder."""
    train: str = Field(default=AUTO, min_length=1, examples=["train"])
    """Folder of the training images, below root. auto: train or training, in any case of letters, or else root
    itself."""
    validation: str | None = Field(default=AUTO, min_length=1, examples=["val"])
    """Folder of the validation images, below root; null holds out `holdout` of the training images. auto: val, valid,
    validation or dev, in any case of letters, or else null."""
    test: str | None = Field(default=None, min_length=1, examples=["test"])
    """Folder of the test images, below root, or auto: test or testing, if there is one; left out, there is no test."""


class CsvData(_UserImages):
    """A CSV file with one image per line, in the columns `file` (or path, image, filename) and `label` (or class).

    A column `split` (train, val or validation, test) is optional. The separator is a comma, a semicolon or a tab. The
    classes are the sorted labels, sorted as numbers where all are whole numbers, unless `classes` has another order.
    """

    model_config = KIND_REQUIRED

    kind: Literal["csv"] = "csv"
    """A CSV file with one image per line."""
    file: str = Field(min_length=1, examples=["/data/photos/labels.csv"])
    """The CSV file. A relative path is relative to the environment variable T2TBUILD_DATA if it is set, otherwise to
    the working folder."""
    root: str | None = Field(default=None, min_length=1, examples=["/data/photos"])
    """Folder that the paths of the images are relative to; left out, the folder of the file."""
    train: str = Field(default=AUTO, min_length=1, examples=["train"])
    """Training images by their value in the column split; all is every line. auto: train or training, or all where
    there is no such column."""
    validation: str | None = Field(default=AUTO, min_length=1, examples=["val"])
    """Validation images by their value in the column split; null holds out `holdout` of the training images. auto: val,
    valid, validation or dev, or else null."""
    test: str | None = Field(default=AUTO, min_length=1, examples=["test"])
    """Test images by their value in the column split; null is none. auto: test or testing, or else null."""


class TimmData(_Streamed):
    """A dataset of timm's create_dataset: from Hugging Face, WebDataset, TensorFlow or torchvision.

    hfds/ and torch/ are map-style datasets, and training is as exact as with a folder. wds/, hfids/ and tfds/ are
    iterable datasets in timm's order, which depends on the seed, the workers and the devices. Each device needs a shard
    of its own. A training that resumes within an epoch reads the earlier samples again and drops them.
    """

    model_config = KIND_REQUIRED

    kind: Literal["timm"] = "timm"
    """A timm dataset."""
    name: str = Field(pattern=DATA_PATTERN, examples=["hfds/imagenet-1k"])
    """Name of the dataset in timm: hfds/ and the name or folder of a Hugging Face dataset, wds/ with shards below root.
    hfds/, hfids/ and wds/ need `pip install 't2tbuild[data]'`."""
    root: str | None = Field(default=None, min_length=1, examples=["/data/cache"])
    """Folder of the dataset, or of its downloads. A relative path is resolved as for `kind: folder`."""
    num_classes: int = Field(ge=1, le=1_000_000, examples=[1000], json_schema_extra=unit("classes"))
    """Number of classes."""
    train: str = Field(default="train", min_length=1, examples=["train"])
    """Training split."""
    validation: str = Field(default="validation", min_length=1, examples=["validation"])
    """Validation split."""
    test: str | None = Field(default=None, min_length=1, examples=["test"])
    """Test split, evaluated once at the end; left out, there is no test."""

    @rule
    def _shards_have_a_root(self) -> Iterator[Violation]:
        if self.name.startswith("wds/") and self.root is None:
            yield Violation("name", f"{self.name} needs root, the folder of its shards", "write root: /data/shards")

    @rule
    def _no_pipes(self) -> Iterator[Violation]:
        if self.root is not None and self.root.startswith("pipe:"):
            yield Violation("root", "a root that is a pipe would run a command", "write a folder or its URL")

    @lint
    def _validation_differs_from_training(self) -> Iterator[Violation]:
        yield from _evaluated_on_training_split(self.train, {"validation": self.validation, "test": self.test})


class PythonData(_Streamed):
    """Datasets of your own that a Python program passed to `t2tbuild.train(spec, out, data=(train_set, val_set))`.

    A run's spec.yaml has it as a record. The command line can neither train nor search on it: it has no images.
    """

    model_config = KIND_REQUIRED

    kind: Literal["python"] = "python"
    """Datasets of a Python program."""
    num_classes: int = Field(ge=1, le=1_000_000, examples=[37], json_schema_extra=unit("classes"))
    """Number of classes."""
    train_images: int = Field(ge=1, examples=[5912], json_schema_extra=unit("images"))
    """Number of training images."""
    validation_images: int = Field(ge=1, examples=[739], json_schema_extra=unit("images"))
    """Number of validation images."""
    test_images: int = Field(default=0, ge=0, examples=[739], json_schema_extra=unit("images"))
    """Number of test images; 0 if there are none."""

    @property
    def train(self) -> str:
        return "train"

    @property
    def validation(self) -> str:
        return "validation"

    @property
    def test(self) -> str | None:
        return "test" if self.test_images else None


def _evaluated_on_training_split(train: str, splits: dict[str, str | None]) -> Iterator[Violation]:
    for field, name in splits.items():
        if name != AUTO and name == ("train" if train == AUTO else train):
            yield Violation(
                field, f"{field} is {name}, which is the training split", "name a split that is not trained on"
            )


InMemory = DigitsData | CifarData | FakeData
"""Data that are held in device memory."""

InMemoryField = Annotated[InMemory, Field(discriminator="kind"), default_kind("digits")]
"""In-memory data as a field of a spec. Without `kind` it is the digits."""

UserImages = FolderData | CsvData
"""Image files of the user, whose classes are found from the files."""

Streamed = FolderData | CsvData | TimmData | PythonData
"""Data that loader workers read during training."""

AnyData = DigitsData | FolderData | CsvData | CifarData | TimmData | PythonData | FakeData
"""Any training data."""

DataField = Annotated[AnyData, Field(discriminator="kind"), default_kind("digits")]
"""Any data as a field of a spec. Without `kind` it is the digits."""

DATA_VARIABLE = "T2TBUILD_DATA"
"""Environment variable: the folder that relative roots start from."""


def data_root(root: str) -> Path:
    """Return the path of a root. A relative root starts from the folder in T2TBUILD_DATA, if it is set."""
    return Path(os.environ.get(DATA_VARIABLE) or ".") / Path(root).expanduser()


def has_test_images(data: AnyData) -> bool:
    """Whether a dataset has test images, apart from those of validation. For unresolved data, whether it may have."""
    return not isinstance(data, Streamed) or data.test is not None
