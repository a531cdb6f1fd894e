"""What a spec may train on: where images lie, how they are made ready, and how they are varied."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.spec.base import KIND_WRITTEN, Listed, Node, Violation, default_kind, lint, rule, unit
from t2tbuild.spec.model import Side

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Share = Annotated[int, Field(ge=0, le=1)] | Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0)]
Sides = Annotated[Side | tuple[Side, Side], Listed]


AUGMENT_PATTERN = r"^(rand|augmix|original|originalr|v0|v0r|3a)(-[a-z]+[a-z0-9.]*){0,8}$"
DATA_PATTERN = r"^(hfds|hfids|tfds|wds|torch)/[^\s]*$"


def _sides(image_size: int | tuple[int, int]) -> tuple[int, ...]:
    return (image_size,) if isinstance(image_size, int) else image_size


class DigitsData(Node):
    """scikit-learn's handwritten digits: 1,797 real images of 10 classes, which come with the library.

    A fixed stratified split gives 1,257 for training, 270 for validation and 270 for test. The 8 x 8 images are
    enlarged to `image_size` and repeated over the model's input channels.
    """

    kind: Literal["digits"] = "digits"
    """The digits of scikit-learn."""
    image_size: int = Field(default=64, ge=8, le=512, examples=[64], json_schema_extra=unit("pixels"))
    """Pixels of the square image's side; the trained model takes images of this size."""
    augment: bool = True
    """Shift, turn and scale the training images a little, differently in each epoch."""

    @property
    def num_classes(self) -> int:
        return 10

    @property
    def train_images(self) -> int:
        return 1257


class FakeData(Node):
    """Gaussian noise with random labels, on the device: for speed tests and dry runs, nothing can be learned."""

    model_config = KIND_WRITTEN

    kind: Literal["fake"] = "fake"
    """Noise."""
    image_size: Sides | None = Field(default=None, examples=[224, [192, 256]], json_schema_extra=unit("pixels"))
    """Pixels of the square image's side, or [height, width]; left out, the model's own."""
    num_classes: int = Field(default=1000, ge=1, le=1_000_000, examples=[1000], json_schema_extra=unit("classes"))
    """Classes that labels are drawn from."""
    samples: int = Field(default=512, ge=1, le=10_000_000, examples=[512], json_schema_extra=unit("images"))
    """Training images; validation has a quarter as many."""

    @property
    def train_images(self) -> int:
        return self.samples


class CifarData(Node):
    """CIFAR-10 or CIFAR-100 from the files of its Python version, on the device as bytes, made ready in batches.

    As the paper transfers to it: enlarged to the model's image, moved by up to `crop_padding` pixels, mirrored.
    """

    model_config = KIND_WRITTEN

    kind: Literal["cifar10", "cifar100"]
    """Which of the two."""
    root: str = Field(default=".", min_length=1, examples=["/data"])
    """The folder that holds cifar-10-batches-py or cifar-100-python, or that folder itself. A relative path is seen
    from the folder that the environment variable T2TBUILD_DATA names, else from the current one."""
    image_size: Sides | None = Field(default=None, examples=[224, [192, 256]], json_schema_extra=unit("pixels"))
    """Pixels of the square image's side that images are enlarged to, or [height, width]; left out, the model's own."""
    holdout: Share = Field(default=0, lt=1, examples=[0.1])
    """Share of the training images that is set aside for validation, stratified; with 0, validation is on the test
    images, as in the paper."""
    crop_padding: int | None = Field(default=None, ge=0, le=4096, examples=[28], json_schema_extra=unit("pixels"))
    """How far a training image is moved at most, in either direction; left out, an eighth of the side, 28 at 224."""
    hflip: Share = Field(default=0.5, examples=[0.5])
    """Probability that a training image is mirrored."""

    @rule
    def _crop_padding_below_side(self) -> Iterator[Violation]:
        sides = () if self.image_size is None else _sides(self.image_size)
        if self.crop_padding is not None and sides and self.crop_padding >= min(sides):
            message = f"crop_padding must be below image_size, got {self.crop_padding} and {min(sides)}"
            yield Violation("crop_padding", message, f"write {min(sides) // 8}, else a crop may be nothing but padding")

    @property
    def num_classes(self) -> int:
        return 10 if self.kind == "cifar10" else 100

    @property
    def train_images(self) -> int:
        return round(50_000 * (1 - self.holdout))


class Augmentation(Node):
    """How a training image is varied (Section 4.1 of the paper, with timm's transforms)."""

    crop_scale: Annotated[tuple[Share, Share], Listed] = Field(default=(0.08, 1), examples=[[0.08, 1.0]])
    """Smallest and largest share of the image's area that a random crop takes."""
    hflip: Share = Field(default=0.5, examples=[0.5])
    """Probability that an image is mirrored."""
    auto_augment: str | None = Field(
        default="rand-m9-mstd0.5-inc1", pattern=AUGMENT_PATTERN, examples=["rand-m9-mstd0.5-inc1"]
    )
    """RandAugment, AutoAugment or AugMix, as timm writes their settings; null for none."""
    color_jitter: Positive | None = Field(default=0.4, le=10, examples=[0.4])
    """Strength of colour jitter, which timm applies only without auto_augment."""
    random_erasing: Share = Field(default=0.25, examples=[0.25])
    """Probability that a rectangle of the image is erased."""
    erasing_mode: Literal["pixel", "rand", "const"] = "pixel"
    """What is put there: noise for each pixel, one random colour, or zero."""

    @rule
    def _crop_scale_rises(self) -> Iterator[Violation]:
        low, high = self.crop_scale
        if not 0 < low <= high:
            message = f"crop_scale must rise from above 0, got {low} and {high}"
            yield Violation("crop_scale", message, "write [0.08, 1]")


class _Streamed(Node):
    """Images that workers read and decode while the device trains."""

    image_size: Sides | None = Field(default=None, examples=[224, [192, 256]], json_schema_extra=unit("pixels"))
    """Pixels of the square image's side that images are brought to, or [height, width]; left out, the model's own."""
    augment: Augmentation | None = Field(default=Augmentation(), examples=[{"random_erasing": 0.25}])
    """How training images are varied; null brings them to size and no more."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """How images are resized; training crops take either at random when they are varied, as timm does."""
    crop_pct: Share = Field(default=0.9, gt=0, examples=[0.9])
    """Share of the resized image's side that evaluation crops from its centre."""
    mean: Annotated[tuple[int | float, ...], Listed] = Field(
        default=IMAGENET_MEAN, min_length=1, max_length=3, examples=[list(IMAGENET_MEAN)]
    )
    """Mean of each channel, in values from 0 to 1, which is subtracted; one for all channels or one each."""
    std: Annotated[tuple[Positive, ...], Listed] = Field(
        default=IMAGENET_STD, min_length=1, max_length=3, examples=[list(IMAGENET_STD)]
    )
    """Standard deviation of each channel, by which is then divided."""
    workers: int | None = Field(default=None, ge=0, le=256, examples=[8], json_schema_extra=unit("processes"))
    """Processes that read images, for each device; left out, one a core, at most 8. What is learned does not depend on
    it, except with sets of timm that can only be read on."""
    skip_corrupt: int = Field(default=10, ge=0, examples=[10], json_schema_extra=unit("images"))
    """How many unreadable training images are named and replaced by their neighbours; one more ends the training. In
    evaluation the first one does, and in training with hfids/ or tfds/."""

    @rule
    def _values_from_0_to_1(self) -> Iterator[Violation]:
        for field, values in (("mean", self.mean), ("std", self.std)):
            for index, value in enumerate(values):
                if not 0 <= value <= 1:
                    message = f"{field} is of values from 0 to 1, got {value}"
                    yield Violation((field, index), message, f"write {value / 255 if 1 < value <= 255 else 0.5:.3g}")

    @rule
    def _mean_and_std_of_the_same_channels(self) -> Iterator[Violation]:
        if len(self.mean) != len(self.std):
            message = f"mean and std must list as many channels, got {len(self.mean)} and {len(self.std)}"
            yield Violation("std", message, "write one each in both, or one for all in both")


class FolderData(_Streamed):
    """Images in a folder for each class: ROOT/train/CLASS/*.jpg and ROOT/val/CLASS/*.jpg, as ImageNet is kept.

    Classes are the folders' names in order.
    """

    model_config = KIND_WRITTEN

    kind: Literal["folder"] = "folder"
    """A folder of class folders."""
    root: str = Field(min_length=1, examples=["/data/imagenet"])
    """The folder that holds the splits. A relative path is seen from the folder that the environment variable
    T2TBUILD_DATA names, else from the current one."""
    train: str = Field(default="train", min_length=1, examples=["train"])
    """The folder of the training images below root."""
    validation: str = Field(default="val", min_length=1, examples=["val"])
    """The folder of the validation images below root."""
    test: str | None = Field(default=None, min_length=1, examples=["test"])
    """The folder of the test images below root; without it, what is called test is validation."""

    @lint
    def _measured_on_training_images(self) -> Iterator[Violation]:
        yield from _measured_on(self.train, {"validation": self.validation, "test": self.test})


class TimmData(_Streamed):
    """A data set that timm's create_dataset opens, of Hugging Face, WebDataset, TensorFlow or torchvision.

    Those of hfds/ and torch/ are found by number, and training is exact as with a folder. Those of wds/, hfids/ and
    tfds/ can only be read on, in timm's own order: it is the same for the same seed, workers and devices, each device
    needs a shard of its own, and a training continued within an epoch reads again, and drops, what came before.
    """

    model_config = KIND_WRITTEN

    kind: Literal["timm"] = "timm"
    """A data set by timm."""
    name: str = Field(pattern=DATA_PATTERN, examples=["hfds/imagenet-1k"])
    """What timm calls it: hfds/ and the name or the folder of a Hugging Face set, wds/ with shards below root. hfds/,
    hfids/ and wds/ need `pip install 't2tbuild[data]'`."""
    root: str | None = Field(default=None, min_length=1, examples=["/data/cache"])
    """Where it lies, or where it is kept once loaded; a relative path is seen as that of a folder."""
    num_classes: int = Field(ge=1, le=1_000_000, examples=[1000], json_schema_extra=unit("classes"))
    """Classes of the set."""
    train: str = Field(default="train", min_length=1, examples=["train"])
    """The split that is trained on."""
    validation: str = Field(default="validation", min_length=1, examples=["validation"])
    """The split that choices are made on."""
    test: str | None = Field(default=None, min_length=1, examples=["test"])
    """The split that is measured once, at the end; without it, what is called test is validation."""

    @rule
    def _shards_have_a_root(self) -> Iterator[Violation]:
        if self.name.startswith("wds/") and self.root is None:
            yield Violation("name", f"{self.name} needs root, the folder of its shards", "write root: /data/shards")

    @rule
    def _no_pipes(self) -> Iterator[Violation]:
        if self.root is not None and self.root.startswith("pipe:"):
            yield Violation(
                "root", "a root that is a pipe would run a command", "write a folder, or the address of one"
            )

    @lint
    def _measured_on_training_images(self) -> Iterator[Violation]:
        yield from _measured_on(self.train, {"validation": self.validation, "test": self.test})


def _measured_on(train: str, splits: dict[str, str | None]) -> Iterator[Violation]:
    for field, name in splits.items():
        if name == train:
            yield Violation(field, f"{field} is {name}, the training images", "name images that are not trained on")


InMemory = DigitsData | CifarData | FakeData
"""Data that lie on the device as a whole."""

InMemoryField = Annotated[InMemory, Field(discriminator="kind"), default_kind("digits")]
"""Data that lie on the device as a field of a spec: without `kind` it is the digits."""

Streamed = FolderData | TimmData
"""Data that workers read while the device trains."""

AnyData = DigitsData | FolderData | CifarData | TimmData | FakeData
"""Any data that a spec may train on."""

DataField = Annotated[AnyData, Field(discriminator="kind"), default_kind("digits")]
"""Any data as a field of a spec: without `kind` it is the digits."""

DATA_VARIABLE = "T2TBUILD_DATA"
"""The environment variable that names the folder from which relative roots are seen."""


def data_root(root: str) -> Path:
    """Where a root is meant: data belong to a machine, so a spec may leave the folder to the environment."""
    return Path(os.environ.get(DATA_VARIABLE) or ".") / Path(root).expanduser()
