"""From any image to a model's input, as in the evaluation of the training that gave the model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from t2tbuild.layout import Grid
from t2tbuild.spec.data import AnyData, CifarData, DigitsData
from t2tbuild.training.data.in_memory import normalize
from t2tbuild.training.data.transforms import ImageTransform, crop_transform
from t2tbuild.weights.preprocessing import Preprocessing

INTERPOLATION = "bicubic"  # from an image to the tiny ones of CIFAR and the digits


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


def evaluation_input(steps: Preprocessing, data: AnyData | None) -> EvaluationInput:
    """Return the steps of a preprocessing as torch does them in training; `data` is what the model was trained on.

    Images for a model that was trained on CIFAR or the digits are first shrunk to the size of those.
    """
    image = Grid(*steps.image)
    if isinstance(data, CifarData):
        from t2tbuild.training.data import cifar

        return EvaluationInput("RGB", _shrink(cifar.SIDE), partial(cifar.prepare, image=image))
    if isinstance(data, DigitsData):
        from t2tbuild.training.data import digits

        return EvaluationInput("L", _shrink(digits.SIDE), digits.make_prepare(image, in_chans=steps.in_chans))
    transform = crop_transform(image, crop_pct=steps.crop_pct, interpolation=steps.interpolation)
    mode = "RGB" if steps.in_chans == 3 else "L"
    return EvaluationInput(mode, transform, partial(normalize, mean=steps.mean, std=steps.std))


def _shrink(side: int) -> ImageTransform:
    """Return the transform to the small square images that a dataset has before they are enlarged."""
    return crop_transform(Grid(side, side), crop_pct=1, interpolation=INTERPOLATION)
