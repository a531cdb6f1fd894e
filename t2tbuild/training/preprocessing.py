"""The preprocessing of a spec: what evaluation does with an image before the model."""

import torch
from torch import nn

from t2tbuild.spec.data import CifarData, DigitsData, FakeData
from t2tbuild.spec.model import AnyModel
from t2tbuild.spec.root import Spec
from t2tbuild.training.data.transforms import channel_statistics
from t2tbuild.weights.preprocessing import Preprocessing, default_preprocessing


def evaluation_preprocessing(spec: Spec, built: nn.Module | None = None) -> Preprocessing:
    """Return the preprocessing of a spec's model by the data of its recipe; `built` is that model.

    Without a recipe it is `default_preprocessing`. The digits and CIFAR are stored as small images that training
    resizes as tensors, without Pillow. A Pillow image of one of them is resized to the model's size without a crop,
    which gives slightly other pixels.

    Raises FieldError when the mean and deviation of the data do not fit the model's channels.
    """
    model = spec.model
    if spec.train is None:
        config = getattr(built, "pretrained_cfg", None)
        return default_preprocessing(model, config if isinstance(config, dict) else None)
    match spec.train.data:
        case DigitsData() | CifarData() | FakeData() as data:
            mean, std = _in_memory_statistics(data, model)
            return Preprocessing(model.image, model.in_chans, mean, std)
        case data:
            mean, std = channel_statistics(data, model.in_chans)
            return Preprocessing(
                model.image, model.in_chans, mean, std, float(data.crop_pct), interpolation=data.interpolation
            )


def _in_memory_statistics(
    data: DigitsData | CifarData | FakeData, model: AnyModel
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    match data:
        case DigitsData():
            from t2tbuild.training.data.digits import load_digits_data

            digits = load_digits_data(data, in_chans=model.in_chans, device=torch.device("cpu"))
            return digits.mean, digits.std
        case CifarData():
            from t2tbuild.training.data.cifar import MEAN, STD

            return MEAN, STD
        case FakeData():
            return (0.0,) * model.in_chans, (1.0,) * model.in_chans
