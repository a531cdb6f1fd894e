"""Image transforms: timm's, drawn from a seed of each sample, and random erasing for images not yet normalised."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import posterize
from timm.data.random_erasing import RandomErasing
from timm.data.transforms_factory import create_transform
from torch import Tensor

from t2tbuild.errors import FieldError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import Streamed
from t2tbuild.spec.units import plural


class ErasedPatch(NamedTuple):
    """A rectangle of a normalised image [C, H, W] that random erasing fills with `noise` [C, height, width]."""

    top: int
    left: int
    noise: Tensor


class ImageTransform:
    """A transform from a PIL image to bytes [C, H, W] and the patch that random erasing draws, if any.

    Erasing follows normalisation, which runs on the device. So the worker only draws the patch, by timm's RandomErasing
    on an empty canvas, and sends it along.
    """

    def __init__(self, transform: Any, erasing: RandomErasing | None = None) -> None:
        self.transform, self.erasing = transform, erasing

    def __call__(self, image: Image.Image) -> tuple[Tensor, ErasedPatch | None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # PIL checks again at each crop
            pixels: Tensor = self.transform(image)
        return pixels, None if self.erasing is None else draw_erased_patch(self.erasing, pixels.shape)


def evaluation_transform(spec: Streamed, image: Grid) -> ImageTransform:
    """Return the evaluation transform: resize and centre crop, without randomness."""
    return crop_transform(image, crop_pct=float(spec.crop_pct), interpolation=spec.interpolation)


def crop_transform(image: Grid, *, crop_pct: float, interpolation: str) -> ImageTransform:
    """Return timm's transform that resizes an image and takes the centre crop of `image` pixels.

    `crop_pct` is the side of the crop over that of the resized image.
    """
    return ImageTransform(
        create_transform(
            (image.height, image.width),
            is_training=False,
            interpolation=interpolation,
            crop_pct=crop_pct,
            normalize=False,
        )
    )


def train_transform(spec: Streamed, image: Grid, mean: tuple[float, ...]) -> ImageTransform:
    """Return the training transform: that of `spec.augment`, or the evaluation transform if there is none.

    Raises FieldError when timm does not accept `auto_augment`.
    """
    augment = spec.augment
    if augment is None:
        return evaluation_transform(spec, image)
    assert not isinstance(augment, str), "resolve_data decides it"
    color_jitter: Any = augment.color_jitter  # None turns it off, which timm's annotation leaves out
    try:
        transform = create_transform(
            (image.height, image.width),
            is_training=True,
            scale=(float(augment.crop_scale[0]), float(augment.crop_scale[1])),
            hflip=float(augment.hflip),
            auto_augment=augment.auto_augment,
            color_jitter=color_jitter,
            interpolation="random",
            mean=mean,
            normalize=False,
        )
    except (AssertionError, KeyError, ValueError) as error:
        message = f"timm does not accept auto_augment {augment.auto_augment}: {error}"
        path = ("train", "data", "augment", "auto_augment")
        raise FieldError(path, "auto-augment", message, "write rand-m9-mstd0.5-inc1") from None
    _allow_posterize_to_zero_bits(transform)
    if not augment.random_erasing:
        return ImageTransform(transform)
    erasing: Any = RandomErasing
    return ImageTransform(transform, erasing(float(augment.random_erasing), mode=augment.erasing_mode, device="cpu"))


def _allow_posterize_to_zero_bits(transform: Any) -> None:
    """Replace timm's posterize, which asks Pillow for 0 bits at the highest magnitude: Pillow 13 refuses that."""
    for part in transform.transforms:
        for operation in chain(getattr(part, "ops", ()), *getattr(part, "policy", ())):
            if operation.aug_fn is posterize:
                operation.aug_fn = _posterize


def _posterize(image: Image.Image, bits: int, **settings: Any) -> Image.Image:
    of_timm: Any = posterize
    return of_timm(image, bits, **settings) if bits else Image.new(image.mode, image.size)  # black, as in Pillow 12


def draw_erased_patch(erasing: RandomErasing, shape: torch.Size) -> ErasedPatch | None:
    """Draw the patch that `erasing` fills in an image [C, H, W], from the generators of `random` and torch.

    torchvision's RandomErasing.get_params draws other numbers than timm, and ours are timm's to the bit.
    """
    canvas: Any = _Canvas(shape)
    erasing(canvas)
    patch: ErasedPatch | None = canvas.patch
    return patch


class _Canvas:
    """An image [C, H, W] without pixels: it keeps only the patch that RandomErasing assigns to it."""

    dtype = torch.float32

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape
        self.patch: ErasedPatch | None = None

    def size(self) -> torch.Size:
        return self.shape

    def __setitem__(self, place: tuple[slice, slice, slice], pixels: Tensor) -> None:
        _, rows, columns = place
        noise = pixels.expand(self.shape[0], rows.stop - rows.start, columns.stop - columns.start)
        self.patch = ErasedPatch(rows.start, columns.start, noise) if noise.numel() else None


def channel_statistics(spec: Streamed, in_chans: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of each channel of the model's images.

    A single number is repeated; three numbers are averaged for a model of gray images. Raises FieldError for another
    count of channels or numbers.
    """
    if in_chans not in (1, 3):
        message = f"images are read with 3 channels, or 1 as gray, and the model has in_chans {in_chans}"
        raise FieldError(("model", "in_chans"), "data-channels", message, "write 3 or 1")
    values = []
    for field, given in (("mean", spec.mean), ("std", spec.std)):
        if len(given) not in (1, 3):
            message = f"{field} has {plural(len(given), 'number')}"
            raise FieldError(("train", "data", field), "data-channels", message, "write one, or one for each channel")
        numbers = tuple(map(float, given))
        values.append((sum(numbers) / len(numbers),) if in_chans == 1 else numbers * (3 // len(numbers)))
    return values[0], values[1]


@contextmanager
def fork_rng(seed: int) -> Iterator[None]:
    """Seed the generators of random, numpy and torch (CPU) within this context, and restore their states after it.

    timm's transforms draw from all three. torch.manual_seed would seed those of the GPUs too.
    """
    state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=()):
        random.seed(seed)
        np.random.seed(seed >> 31)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)
