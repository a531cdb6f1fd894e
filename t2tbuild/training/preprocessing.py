"""What evaluation does with an image before the model: the one answer for a spec and its weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from t2tbuild.files import read_json
from t2tbuild.spec.data import AnyData, CifarData, DigitsData, FakeData, Streamed
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import AnyModel
from t2tbuild.spec.root import Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.weights import RELEASED, Weights, name_released
from t2tbuild.training.data.transforms import channel_statistics
from t2tbuild.weights.preprocessing import OWN_STEPS, Preprocessing, data_fields, default_preprocessing, per_channel
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
    model, data = spec.model, _training_data(spec.train)
    if data is not None:
        return data_preprocessing(data, model)
    name = "" if weights is None else name_released(weights.file, model.name)
    if name.startswith(f"{RELEASED}:"):
        released = find_released(name.removeprefix(f"{RELEASED}:"))
        mean, std = (per_channel(values, model.in_chans) for values in (released.mean, released.std))
        return Preprocessing(model.image, model.in_chans, mean, std, released.crop, shrink=released.shrink)
    source = None if weights is None else resolve_weights(weights.file)
    if source is not None and source.run is not None:
        data = _training_data(load_spec(source.run / "spec.yaml").train)
        if data is not None:
            return data_preprocessing(data, model)
    config = {} if source is None else _read_config(Path(source.file))
    own = getattr(built, "pretrained_cfg", None)
    return default_preprocessing(model, config or (own if isinstance(own, dict) else None))


def complete_data(spec: Spec, own: Spec, weights: Weights, built: nn.Module) -> Spec:
    """Return a resolved spec with the crop, interpolation, mean and deviation that `predict` takes with `own`.

    The data of a spec have no `shrink` and `gray`: images for a model of CIFAR or the digits are not shrunk.
    `own` is the spec before other data were named for it, by --data or an override. What the fields of the data say
    wins. CIFAR and the digits have a normalisation of their own.
    """
    recipe = spec.train
    if recipe is None or not isinstance(recipe.data, Streamed):
        return spec
    steps = find_preprocessing(own.model_copy(update={"model": spec.model}), weights, built)
    given = recipe.data.model_fields_set
    changes = {name: value for name, value in data_fields(steps).items() if name not in given}
    data = recipe.data.model_copy(update=changes)
    return spec.model_copy(update={"train": recipe.model_copy(update={"data": data})})


def _training_data(recipe: TrainSpec | None) -> AnyData | None:
    """Return the data of a recipe; None without any, or for noise."""
    return None if recipe is None or isinstance(recipe.data, FakeData) else recipe.data


def data_preprocessing(data: AnyData, model: AnyModel) -> Preprocessing:
    """Return the preprocessing of a model that was trained on `data`.

    The digits and CIFAR are stored as small images that training enlarges. Any other image is shrunk to their size
    first, since the model has seen nothing sharper.

    Raises FieldError when the mean and deviation of the data do not fit the model's channels.
    """
    match data:
        case DigitsData():
            from t2tbuild.training.data.digits import SIDE, load_digits_data

            small = data.model_copy(update={"image_size": SIDE})  # their statistics are those of any size
            digits = load_digits_data(small, in_chans=model.in_chans, device=torch.device("cpu"))
            return Preprocessing(model.image, model.in_chans, digits.mean, digits.std, shrink=SIDE, gray=True)
        case CifarData():
            from t2tbuild.training.data.cifar import MEAN, SIDE, STD

            mean, std = (per_channel(values, model.in_chans) for values in (MEAN, STD))
            return Preprocessing(model.image, model.in_chans, mean, std, shrink=SIDE)
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
        config = read_json(beside / CONFIG)
        known, own = config["pretrained_cfg"], config.get(OWN_STEPS, {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return known | own if isinstance(known, dict) and isinstance(own, dict) else {}
