"""From any image to a model's input, as in the evaluation of the training that gave the model."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from torch import Tensor, nn

from t2tbuild.layout import Grid
from t2tbuild.spec.data import (
    AnyData,
    CifarData,
    CsvData,
    DigitsData,
    FakeData,
    FolderData,
    PythonData,
    TimmData,
)
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import AnyModel, TimmModel
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import Weights
from t2tbuild.training.data.in_memory import normalize
from t2tbuild.training.data.transforms import ImageTransform, channel_statistics, crop_transform, evaluation_transform
from t2tbuild.weights.preprocessing import default_preprocessing
from t2tbuild.weights.resolve import resolve_weights

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


def evaluation_input(spec: Spec, weights: Weights, model: nn.Module) -> EvaluationInput:
    """Return the preprocessing of a spec's data; without a train section that of the run or folder of the weights.

    Where neither says anything, it is that of the timm model, and of the paper for our models.
    """
    data = training_data(spec, weights)
    if data is None or isinstance(data, FakeData):
        return _of_config(spec.model, weights, model)
    return _of_data(data, spec.model)


def training_data(spec: Spec, weights: Weights) -> AnyData | None:
    """Return the data that a model was trained on: the spec's, or those of the run of its weights; None if unknown."""
    if spec.train is not None:
        return spec.train.data
    run = resolve_weights(weights.file).run
    trained = None if run is None else load_spec(run / "spec.yaml").train
    return None if trained is None else trained.data


def _of_data(data: AnyData, model: AnyModel) -> EvaluationInput:
    image, channels = model.image, model.in_chans
    mode = "L" if channels == 1 else "RGB"
    match data:
        case FolderData() | CsvData() | TimmData() | PythonData():
            mean, std = channel_statistics(data, channels)
            prepare: Callable[[Tensor], Tensor] = partial(normalize, mean=mean, std=std)
            return EvaluationInput(mode, evaluation_transform(data, image), prepare)
        case CifarData():
            from t2tbuild.training.data import cifar

            return EvaluationInput("RGB", _shrink(cifar.SIDE), partial(cifar.prepare, image=image))
        case DigitsData():
            from t2tbuild.training.data import digits

            prepare = digits.make_prepare(image, in_chans=channels)
            return EvaluationInput("L", _shrink(digits.SIDE), prepare)
        case FakeData():
            raise ValueError("noise has no preprocessing")
        case _:
            assert_never(data)


def _shrink(side: int) -> ImageTransform:
    """Return the transform to the small square images that a dataset has before they are enlarged."""
    return crop_transform(Grid(side, side), crop_ratio=1, interpolation=INTERPOLATION)


def _of_config(model: AnyModel, weights: Weights, built: Any) -> EvaluationInput:
    """Return the preprocessing of timm's configuration: in config.json beside the weights, or the timm model's own."""
    own = getattr(built, "pretrained_cfg", None) if isinstance(model, TimmModel) else None
    config = _read_config(Path(resolve_weights(weights.file).file) / "config.json") or own
    steps = default_preprocessing(model, config)
    transform = crop_transform(model.image, crop_ratio=steps.crop_ratio, interpolation=steps.interpolation)
    mode = "RGB" if model.in_chans == 3 else "L"
    return EvaluationInput(mode, transform, partial(normalize, mean=steps.mean, std=steps.std))


def _read_config(path: Path) -> dict[str, Any]:
    """Return timm's pretrained_cfg in a config.json; empty if there is none, or a damaged one."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["pretrained_cfg"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}
