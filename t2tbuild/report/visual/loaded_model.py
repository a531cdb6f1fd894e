"""Loading of a model with its weights, and of images as its input."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from t2tbuild.build import build_model
from t2tbuild.errors import InputError
from t2tbuild.image_mode import load_image, to_mode
from t2tbuild.layout import Grid
from t2tbuild.modules.vit import T2TViT
from t2tbuild.report.visual.receptive_field import Window
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import Weights
from t2tbuild.training.data.dataset import error_reason
from t2tbuild.training.preprocessing import find_preprocessing
from t2tbuild.weights.load import load_spec_weights

SEED = 0
SAMPLE_IMAGE = "china.jpg"
"""The sample photograph of scikit-learn that is used when no image is given."""


@dataclass(frozen=True)
class LoadedImage:
    """An image at a model's input size.

    `pixels` is [height, width, 3] of bytes, for drawing; `tensor` is [1, in_chans, height, width], normalised, for the
    model.
    """

    name: str
    pixels: np.ndarray
    tensor: Tensor

    def named(self, name: str) -> "LoadedImage":
        """Return the same image under another name."""
        return replace(self, name=name)


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, a description of its weights, and the mean and standard deviation of its input."""

    name: str
    module: nn.Module
    image: Grid
    in_chans: int
    weights: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def title(self) -> str:
        return f"{self.name}, {self.weights}"

    def load_image(self, path: Path | None) -> LoadedImage:
        """Load an image file, or the sample photograph if `path` is None, scaled to cover the input and center-cropped.

        A model whose number of input channels is not 3 gets the image in gray. Raises InputError if the file is not an
        image.
        """
        image = ImageOps.fit(_open_image(path), (self.image.width, self.image.height), Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
        channels = pixels if self.in_chans == 3 else np.asarray(image.convert("L"))[:, :, None]
        x_CHW = torch.from_numpy(channels.copy()).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return LoadedImage(Path(path or SAMPLE_IMAGE).stem, pixels, ((x_CHW - mean) / std).unsqueeze(0))


def load_model(spec: Spec, weights: Weights | None) -> LoadedModel:
    """Build the model of a spec and load weights into it; without weights it is randomly initialised with seed 0.

    Raises FieldError if timm cannot build the model, and InputError if the weights do not fit it.
    """
    torch.manual_seed(SEED)
    model: nn.Module = build_model(spec.model)
    if weights is not None:
        load_spec_weights(model, weights)
    steps = find_preprocessing(spec, weights, model)
    return LoadedModel(
        name=spec.model.name,
        module=model.eval().requires_grad_(False),
        image=spec.model.image,
        in_chans=steps.in_chans,
        weights=f"random weights (seed {SEED})" if weights is None else f"weights of {weights.file}",
        mean=steps.mean,
        std=steps.std,
    )


def windows_of(model: Any) -> list[Window]:
    """Return the windows that turn an image into a model's tokens; an empty list if they are unknown, as for a CNN."""
    if isinstance(model, T2TViT):
        return list(model.tokens_to_token.windows)
    embed = getattr(model, "patch_embed", None)
    patches = None if hasattr(embed, "backbone") else getattr(embed, "proj", None)  # a CNN stem, not patches
    first = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    if not isinstance(patches, nn.Conv2d) or patches is not first:  # a convolution precedes it
        return []
    if isinstance(patches.padding, str) or any(
        len(set(sides)) > 1 for sides in (patches.kernel_size, patches.stride, patches.padding)
    ):
        return []
    return [(patches.kernel_size[0], patches.stride[0], patches.padding[0])]


def _open_image(path: Path | None) -> Image.Image:
    """Open an image in RGB, as training reads it."""
    if path is None:
        from sklearn.datasets import load_sample_image

        return Image.fromarray(load_sample_image(SAMPLE_IMAGE))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return to_mode(load_image(path), "RGB")
    except Exception as error:  # PIL raises many types of errors for corrupt files
        raise InputError(f"--image {path}: cannot be read: {error_reason(error)}; name a PNG or JPEG file") from None
