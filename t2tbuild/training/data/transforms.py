"""How an image is made ready: timm's transforms, drawn from seeds of the sample's own."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import posterize
from timm.data.random_erasing import RandomErasing
from timm.data.transforms_factory import create_transform
from torch import Tensor

from t2tbuild.errors import FieldError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import FolderData, TimmData
from t2tbuild.training.data.erasing import Patch, drawn


class ImageTransform:
    """From an image of PIL to bytes [C, H, W], and what is to be erased once they are normalised.

    Erasing comes after normalisation, which the device does: so timm's erasing is run here on a canvas of nothing, and
    only what it draws is sent along.
    """

    def __init__(self, transform: Any, erasing: RandomErasing | None = None) -> None:
        self.transform, self.erasing = transform, erasing

    def __call__(self, image: Image.Image) -> tuple[Tensor, Patch | None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # PIL asks again at each crop
            picture: Tensor = self.transform(image)
        return picture, None if self.erasing is None else drawn(self.erasing, picture.shape)


def evaluation_transform(spec: FolderData | TimmData, image: Grid) -> ImageTransform:
    """The middle of the image resized: a fixed function of it."""
    return ImageTransform(
        create_transform(
            (image.height, image.width),
            is_training=False,
            interpolation=spec.interpolation,
            crop_pct=float(spec.crop_pct),
            normalize=False,
        )
    )


def train_transform(spec: FolderData | TimmData, image: Grid, mean: tuple[float, ...]) -> ImageTransform:
    """The image varied as `spec.augment` says, without it the evaluation's. Raises FieldError for its settings."""
    vary = spec.augment
    if vary is None:
        return evaluation_transform(spec, image)
    color_jitter: Any = vary.color_jitter  # None is for none, which timm's annotation has forgotten
    try:
        transform = create_transform(
            (image.height, image.width),
            is_training=True,
            scale=(float(vary.crop_scale[0]), float(vary.crop_scale[1])),
            hflip=float(vary.hflip),
            auto_augment=vary.auto_augment,
            color_jitter=color_jitter,
            interpolation="random",
            mean=mean,
            normalize=False,
        )
    except (AssertionError, KeyError, ValueError) as error:
        message = f"timm cannot read auto_augment {vary.auto_augment}: {error}"
        path = ("train", "data", "augment", "auto_augment")
        raise FieldError(path, "auto-augment", message, "write rand-m9-mstd0.5-inc1") from None
    _posterize_to_nothing(transform)
    if not vary.random_erasing:
        return ImageTransform(transform)
    erasing: Any = RandomErasing
    return ImageTransform(transform, erasing(float(vary.random_erasing), mode=vary.erasing_mode, device="cpu"))


def _posterize_to_nothing(transform: Any) -> None:
    """Let timm's policies posterize to 0 bits, at their highest magnitude: Pillow refuses it from version 13 on."""
    for part in transform.transforms:
        for operation in chain(getattr(part, "ops", ()), *getattr(part, "policy", ())):
            if operation.aug_fn is posterize:
                operation.aug_fn = _posterized


def _posterized(image: Image.Image, bits: int, **settings: Any) -> Image.Image:
    of_timm: Any = posterize
    return of_timm(image, bits, **settings) if bits else Image.new(image.mode, image.size)  # black, as it was


def channel_values(spec: FolderData | TimmData, in_chans: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for each channel of the model's images.

    One number is repeated; three are averaged for a model of gray images. Raises FieldError for other numbers.
    """
    if in_chans not in (1, 3):
        message = f"images are read with 3 channels, or 1 as gray, and the model has in_chans {in_chans}"
        raise FieldError(("model", "in_chans"), "data-channels", message, "write 3 or 1")
    values = []
    for field, given in (("mean", spec.mean), ("std", spec.std)):
        if len(given) not in (1, 3):
            message = f"{field} has {len(given)} numbers"
            raise FieldError(
                ("train", "data", field), "data-channels", message, "write one, or one for each of 3 channels"
            )
        numbers = tuple(map(float, given))
        values.append((sum(numbers) / len(numbers),) if in_chans == 1 else numbers * (3 // len(numbers)))
    return values[0], values[1]


@contextmanager
def fork_rng(seed: int) -> Iterator[None]:
    """All three generators that timm's transforms draw from, seeded; afterwards they are as they were.

    Only torch's generator of the CPU is touched: torch.manual_seed would seed those of the GPUs too.
    """
    kept, kept_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=()):
        random.seed(seed)
        np.random.seed(seed >> 31)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(kept)
            np.random.set_state(kept_numpy)
