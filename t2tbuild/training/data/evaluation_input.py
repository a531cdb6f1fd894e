"""From any image to a model's input, as in the evaluation of the training that gave the model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from t2tbuild.layout import Grid
from t2tbuild.training.data.in_memory import normalize
from t2tbuild.training.data.transforms import ImageTransform, crop_transform
from t2tbuild.weights.preprocessing import Preprocessing


@dataclass(frozen=True)
class EvaluationInput:
    """The steps from an image to a model's input.

    Attributes:
        mode: PIL's mode of the image: RGB, or L for gray.
        transform: From the image to bytes [C, height, width]: resize and centre crop.
        prepare: From a batch of them on the device to the model's input: normalise, and for data of tiny images resize.
    """

    mode: str
    transform: ImageTransform
    prepare: Callable[[Tensor], Tensor]


def evaluation_input(steps: Preprocessing) -> EvaluationInput:
    """Return the steps of a preprocessing as torch does them in training."""
    transform = crop_transform(Grid(*steps.cropped), crop_pct=steps.crop_pct, interpolation=steps.interpolation)
    return EvaluationInput(steps.mode, transform, partial(_prepare, steps))


def _prepare(steps: Preprocessing, images_BCHW: Tensor) -> Tensor:
    """Return the model's input from bytes; gray ones have one channel, which becomes those of the mean."""
    normal = normalize(images_BCHW, mean=steps.mean, std=steps.std)
    return normal if steps.shrink is None else F.interpolate(normal, size=steps.image, mode="bicubic")
