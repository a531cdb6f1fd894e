"""How an image becomes a model's input: resize, centre crop, mean and deviation, with Pillow and numpy alone.

The steps are those of evaluation in training (timm's transform); `t2tbuild.training.preprocessing` has a spec's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from PIL import Image

from t2tbuild.image_mode import to_mode
from t2tbuild.layout import Grid
from t2tbuild.spec.data import IMAGENET_MEAN, IMAGENET_STD, FolderData
from t2tbuild.spec.model import AnyModel

Array = np.ndarray[Any, Any]

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
"""Pillow's resampling for each interpolation; Pillow filters what it shrinks (antialias)."""


LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in Pillow's gray."""

OWN_STEPS = "preprocessing"
"""Key in config.json of the steps that timm does not know: `shrink` and `gray`."""


class Crop(NamedTuple):
    """The size [height, width] that an image is resized to, and the corner of the centre crop in it."""

    resized: Grid
    top: int
    left: int


@dataclass(frozen=True)
class Preprocessing:
    """The steps from an image to the model's input.

    Attributes:
        image: Height and width of the model's images.
        in_chans: Their channels: 3 are RGB, another number is gray, repeated.
        mean, std: Of each channel, for values from 0 to 1.
        crop_pct: Side of the centre crop over the side of the resized image.
        interpolation: bilinear or bicubic, as Pillow resizes.
        shrink: Side of the square that an image is cut and shrunk to first, as the images of CIFAR and the digits are
            stored; it is enlarged from there to `image` after it was normalised, as in training. None for other data.
        gray: Whether the channels are equal: the gray of the image, repeated, as for the digits.
        inside: Whether the exported graph does all this. Its input is then bytes [batch, height, width, in_chans] of
            any height and width; otherwise it is normalised float32 [batch, in_chans, *image].
    """

    image: tuple[int, int]
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    inside: bool = False
    shrink: int | None = None
    gray: bool = False

    @property
    def mode(self) -> str:
        """Pillow's mode of the image that is read: RGB, or L for gray."""
        return "RGB" if self.in_chans == 3 and not self.gray else "L"

    @property
    def cropped(self) -> tuple[int, int]:
        """Height and width of the crop: the model's image, or the small one that is then enlarged."""
        return self.image if self.shrink is None else (self.shrink, self.shrink)

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width that the resized image has at least, before the crop."""
        height, width = (math.floor(side / self.crop_pct) for side in self.cropped)
        return height, width

    def crop(self, height: int, width: int) -> Crop:
        """Return the size that an image of `height` x `width` pixels is resized to, and its centre crop.

        As timm and torchvision do: a square target is the shorter side of the image, and the longer one is rounded
        down; for another target both sides are rounded.
        """
        rows, columns = self.resized
        if rows == columns:
            short = min(height, width)
            resized = Grid(rows * height // short, rows * width // short)
        else:
            ratio = min(height / rows, width / columns)
            resized = Grid(round(height / ratio), round(width / ratio))
        top, left = (round((side - crop) / 2) for side, crop in zip(resized, self.cropped, strict=True))
        return Crop(resized, top, left)

    def read_pixels(self, image: Image.Image) -> Array:
        """Return the bytes [height, width, in_chans] of an image, upright."""
        pixels = np.array(to_mode(image, self.mode))
        return pixels if self.mode == "RGB" else np.repeat(pixels[..., None], self.in_chans, axis=2)

    def crop_pixels(self, image: Image.Image) -> Array:
        """Return the bytes [*cropped, in_chans] of an image: upright, resized and cropped."""
        image = to_mode(image, self.mode)
        crop = self.crop(image.height, image.width)
        resized = image.resize((crop.resized.width, crop.resized.height), RESAMPLING[self.interpolation])
        height, width = self.cropped
        return self.read_pixels(resized.crop((crop.left, crop.top, crop.left + width, crop.top + height)))

    def normalize(self, pixels: Array) -> Array:
        """Return the model's input [in_chans, *image] in float32 from bytes [*cropped, in_chans]."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        small = ((pixels.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)
        if self.shrink is None:
            return np.ascontiguousarray(small)
        down, across = (enlargement(self.shrink, side) for side in self.image)
        return np.ascontiguousarray(down @ small @ across.T)

    def undo_enlargement(self, images: Array) -> Array:
        """Return the small images [..., *cropped] of enlarged ones [..., *image]: a linear map that is one to one."""
        if self.shrink is None:
            return images
        down, across = (np.linalg.pinv(enlargement(self.shrink, side)) for side in self.image)
        return down @ images @ across.T

    def prepare(self, image: Image.Image) -> Array:
        """Return one input of the graph from an image: normalised [in_chans, *image], or all its bytes if `inside`."""
        return self.read_pixels(image) if self.inside else self.normalize(self.crop_pixels(image))


def enlargement(small: int, side: int) -> Array:
    """Return the matrix [side, small] that enlarges a column of pixels as torch's bicubic interpolation does."""
    position = (np.arange(side) + 0.5) * small / side - 0.5
    matrix = np.zeros((side, small), np.float32)
    for tap in range(-1, 3):
        pixel = np.floor(position) + tap
        t = np.abs(position - pixel)
        weight = np.where(t <= 1, (1.25 * t - 2.25) * t * t + 1, ((-0.75 * t + 3.75) * t - 6) * t + 3)
        np.add.at(matrix, (np.arange(side), np.clip(pixel, 0, small - 1).astype(int)), weight)
    return matrix


def default_preprocessing(model: AnyModel, config: Mapping[str, Any] | None = None) -> Preprocessing:
    """Return the preprocessing of a model whose training is not known.

    With a `config`, timm's pretrained_cfg, also with `shrink` and `gray`, it is that of the config; otherwise the
    paper's on ImageNet: bicubic, a crop of 0.9. An interpolation of timm that Pillow does not have becomes bicubic.
    """
    given = config or {}
    paper = FolderData.model_fields
    interpolation, crop_pct, shrink = (given.get(name) for name in ("interpolation", "crop_pct", "shrink"))
    return Preprocessing(
        model.image,
        model.in_chans,
        mean=per_channel(_channels(given.get("mean")) or IMAGENET_MEAN, model.in_chans),
        std=per_channel(_channels(given.get("std")) or IMAGENET_STD, model.in_chans),
        crop_pct=float(crop_pct if is_crop(crop_pct) else paper["crop_pct"].default),
        interpolation=interpolation if interpolation in list(RESAMPLING) else str(paper["interpolation"].default),
        shrink=shrink if is_shrink(shrink, model.image) else None,
        gray=bool(given.get("gray")),
    )


def is_shrink(value: Any, image: Sequence[int]) -> bool:
    """Whether a stranger's `shrink` is a side in pixels: that of the image at most, or CIFAR's, which may be larger."""
    return type(value) is int and 1 <= value <= max(32, *image)


def is_crop(value: Any) -> TypeGuard[float]:
    """Whether a stranger's `crop_pct` is a number that resizes no image to a huge one."""
    return isinstance(value, int | float) and 0.01 <= value <= 20


def _channels(values: Any) -> Sequence[float]:
    """Return a stranger's mean or deviation; nothing where it is no list of numbers."""
    if not isinstance(values, list | tuple):
        return ()
    return values if all(isinstance(one, int | float) and abs(one) < 1e6 for one in values) else ()


def per_channel(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    """Return one number for each channel: the given ones, or their average where their count differs."""
    return tuple(map(float, values)) if len(values) == in_chans else (sum(values) / len(values),) * in_chans


def data_fields(steps: Preprocessing) -> dict[str, Any]:
    """Return the fields of a spec's data that resize, crop and normalise images so."""
    channels = slice(None) if steps.in_chans in (1, 3) else slice(1)  # of gray images, repeated
    return {
        "crop_pct": steps.crop_pct,
        "interpolation": steps.interpolation,
        "mean": steps.mean[channels],
        "std": steps.std[channels],
    }
