"""What evaluation does with an image before the model: the one answer for a spec and its weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from t2tbuild.files import read_json
from t2tbuild.spec.data import AnyData, CifarData, DigitsData, FakeData
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import AnyModel
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import RELEASED, Weights, name_released
from t2tbuild.training.data.transforms import channel_statistics
from t2tbuild.weights.preprocessing import Preprocessing, default_preprocessing, per_channel
from t2tbuild.weights.released import find_released
from t2tbuild.weights.resolve import resolve_weights

CONFIG = "config.json"
"""timm's configuration beside weights."""


def find_preprocessing(spec: Spec, weights: Weights | None, built: nn.Module | None = None) -> Preprocessing:
    """Return the preprocessing of a spec's model with weights; `built` is that model.

    It is that of the first of these that is known: the spec's data, the data of the run of the weights, the released
    file, config.json beside the weights, timm's configuration of the model, and the paper's on ImageNet. Noise says
    nothing about images.

    Raises FieldError when the mean and deviation of the data do not fit the model's channels.
    """
    model = spec.model
    name = "" if weights is None else name_released(weights.file, model.name)
    if name.startswith(f"{RELEASED}:") and find_training_data(spec, None) is None:
        released = find_released(name.removeprefix(f"{RELEASED}:"))
        mean, std = (per_channel(values, model.in_chans) for values in (released.mean, released.std))
        return Preprocessing(model.image, model.in_chans, mean, std, released.crop)
    data = find_training_data(spec, weights)
    if data is not None:
        return data_preprocessing(data, model)
    config = {} if weights is None else _read_config(Path(resolve_weights(weights.file).file))
    own = getattr(built, "pretrained_cfg", None)
    return default_preprocessing(model, config or (own if isinstance(own, dict) else None))


def find_training_data(spec: Spec, weights: Weights | None) -> AnyData | None:
    """Return the data that a model was trained on: the spec's, or those of the run of its weights.

    None if they are not known, or noise.
    """
    recipe = spec.train
    if recipe is None or isinstance(recipe.data, FakeData):
        run = None if weights is None else resolve_weights(weights.file).run
        recipe = None if run is None else load_spec(run / "spec.yaml").train
    return None if recipe is None or isinstance(recipe.data, FakeData) else recipe.data


def data_preprocessing(data: AnyData, model: AnyModel) -> Preprocessing:
    """Return the preprocessing of a model that was trained on `data`.

    The digits and CIFAR are stored as small images that training resizes as tensors, without Pillow. A Pillow image of
    one of them is resized to the model's size without a crop, which gives slightly other pixels.

    Raises FieldError when the mean and deviation of the data do not fit the model's channels.
    """
    match data:
        case DigitsData():
            from t2tbuild.training.data.digits import SIDE, load_digits_data

            small = data.model_copy(update={"image_size": SIDE})  # their statistics are those of any size
            digits = load_digits_data(small, in_chans=model.in_chans, device=torch.device("cpu"))
            return Preprocessing(model.image, model.in_chans, digits.mean, digits.std)
        case CifarData():
            from t2tbuild.training.data.cifar import MEAN, STD

            mean, std = (per_channel(values, model.in_chans) for values in (MEAN, STD))
            return Preprocessing(model.image, model.in_chans, mean, std)
        case FakeData():
            return Preprocessing(model.image, model.in_chans, (0.0,) * model.in_chans, (1.0,) * model.in_chans)
        case _:
            mean, std = channel_statistics(data, model.in_chans)
            return Preprocessing(
                model.image, model.in_chans, mean, std, float(data.crop_pct), interpolation=data.interpolation
            )


def _read_config(weights: Path) -> dict[str, Any]:
    """Return timm's pretrained_cfg of a folder or file of weights; empty if there is none, or a damaged one."""
    beside = weights if weights.is_dir() else weights.parent
    try:
        config = read_json(beside / CONFIG)["pretrained_cfg"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}
