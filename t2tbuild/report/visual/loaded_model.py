"""What is looked at: a model with its weights, and images as it reads them."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from t2tbuild.build import build_model
from t2tbuild.errors import InputError
from t2tbuild.layout import Grid
from t2tbuild.modules.vit import T2TViT
from t2tbuild.report.visual.receptive_field import Window
from t2tbuild.spec.data import IMAGENET_MEAN, IMAGENET_STD, CifarData, FolderData, TimmData
from t2tbuild.spec.model import TimmModel
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import LOCAL_DIR, Weights
from t2tbuild.training.data.decode import reason
from t2tbuild.weights.load import load_named
from t2tbuild.weights.read import newest_of_run

SEED = 0
SAMPLE = "china.jpg"
"""The photograph of scikit-learn's two that is looked at where none is named."""


@dataclass(frozen=True)
class Picture:
    """An image at a model's size: `shown` [height, width, 3] in bytes, `read` [1, in_chans, height, width] normed."""

    name: str
    shown: np.ndarray
    read: Tensor

    def named(self, name: str) -> "Picture":
        """The same picture by another name."""
        return replace(self, name=name)


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation, where its weights are from, and what its images are normalised by."""

    name: str
    model: nn.Module
    image: Grid
    in_chans: int
    weights: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def title(self) -> str:
        return f"{self.name}, {self.weights}"

    def picture(self, path: Path | None) -> Picture:
        """An image file, or scikit-learn's photograph, scaled to cover the model's image and cropped in the middle.

        Gray or of another number of channels than 3, the model gets it as gray. Raises InputError for what is no image.
        """
        image = ImageOps.fit(_opened(path), (self.image.width, self.image.height), Image.Resampling.BICUBIC)
        shown = np.asarray(image)
        channels = shown if self.in_chans == 3 else np.asarray(image.convert("L"))[:, :, None]
        read_CHW = torch.from_numpy(channels.copy()).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return Picture(Path(path or SAMPLE).stem, shown, ((read_CHW - mean) / std).unsqueeze(0))


def load_model(spec: Spec, weights: Weights | None) -> LoadedModel:
    """The model of a spec with the given weights, or with fresh ones of seed 0.

    Raises FieldError when timm cannot build it, and InputError when the weights do not fit.
    """
    torch.manual_seed(SEED)
    model: nn.Module = build_model(spec.model)
    if weights is not None:
        load_named(model, weights)
    mean, std = _normalisation(spec, weights, model)
    in_chans = spec.model.in_chans
    return LoadedModel(
        name=spec.model.name,
        model=model.eval().requires_grad_(False),
        image=spec.model.image,
        in_chans=in_chans,
        weights=f"random weights (seed {SEED})" if weights is None else f"weights of {weights.file}",
        mean=_per_channel(mean, in_chans),
        std=_per_channel(std, in_chans),
    )


def windows_of(model: Any) -> list[Window]:
    """The windows that make a model's tokens of an image; empty where they are not known, as in a CNN."""
    if isinstance(model, T2TViT):
        return list(model.tokens_to_token.windows)
    embed = getattr(model, "patch_embed", None)
    patches = None if hasattr(embed, "backbone") else getattr(embed, "proj", None)  # a CNN below makes maps, no patches
    first = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    if not isinstance(patches, nn.Conv2d) or patches is not first:  # convolutions below it make maps, too
        return []
    if isinstance(patches.padding, str) or any(
        len(set(sides)) > 1 for sides in (patches.kernel_size, patches.stride, patches.padding)
    ):
        return []
    return [(patches.kernel_size[0], patches.stride[0], patches.padding[0])]


def _opened(path: Path | None) -> Image.Image:
    """The image in RGB, turned as its camera says."""
    if path is None:
        from sklearn.datasets import load_sample_image

        return Image.fromarray(load_sample_image(SAMPLE))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # PIL has an error of another type for each way in which a file can be broken
        raise InputError(f"--image {path}: cannot be read: {reason(error)}; name a PNG or JPEG file") from None


def _normalisation(spec: Spec, weights: Weights | None, model: Any) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation: those of the run that trained the weights, the spec's data's, timm's, ImageNet's."""
    if weights is not None:
        newest, _ = newest_of_run(Path(weights.file.removeprefix(LOCAL_DIR)))
        config = _config(newest / "config.json")
        if config:
            return config["mean"], config["std"]
    data = spec.train.data if spec.train is not None else None
    if isinstance(data, FolderData | TimmData):
        return [float(value) for value in data.mean], [float(value) for value in data.std]
    if isinstance(data, CifarData):
        from t2tbuild.training.data.cifar import MEAN, STD

        return MEAN, STD
    if isinstance(spec.model, TimmModel):
        return model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
    return IMAGENET_MEAN, IMAGENET_STD


def _config(path: Path) -> dict[str, Sequence[float]]:
    """What a run's checkpoint, or a folder of timm's, tells of its images; empty where there is nothing such."""
    try:
        message = json.loads(path.read_text(encoding="utf-8"))["pretrained_cfg"]
        return {field: [float(value) for value in message[field]] for field in ("mean", "std")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _per_channel(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    """One value for each channel; of another number of them the mean."""
    return tuple(values) if len(values) == in_chans else (sum(values) / len(values),) * in_chans
