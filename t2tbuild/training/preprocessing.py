"""The preprocessing of a spec: what evaluation does with an image before the model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from t2tbuild.spec.data import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CifarData,
    DigitsData,
    FakeData,
    FolderData,
    Streamed,
)
from t2tbuild.spec.model import AnyModel, TimmModel
from t2tbuild.spec.root import Spec
from t2tbuild.training.data.transforms import channel_statistics
from t2tbuild.weights.preprocessing import RESAMPLING, Preprocessing


def evaluation_preprocessing(spec: Spec, built: nn.Module) -> Preprocessing:
    """Return the preprocessing of a spec's model by the data of its recipe; `built` is that model.

    Without a recipe: timm's own of a timm model, and for others the paper's on ImageNet (bicubic, crop 0.9). The digits
    and CIFAR are stored as small images that training resizes as tensors, without Pillow; a Pillow image of one of them
    is resized to the model's size without a crop, which gives slightly other pixels.

    Raises FieldError when the data's mean and deviation do not have the model's channels.
    """
    model = spec.model
    if spec.train is None:
        if isinstance(model, TimmModel):
            return _timm_preprocessing(model, built)
        return _streamed_preprocessing(FolderData(kind="folder", root="."), model)
    match spec.train.data:
        case DigitsData() | CifarData() | FakeData() as data:
            mean, std = _in_memory_statistics(data, model)
            return Preprocessing(model.image, model.in_chans, mean, std)
        case data:
            return _streamed_preprocessing(data, model)


def _streamed_preprocessing(data: Streamed, model: AnyModel) -> Preprocessing:
    mean, std = channel_statistics(data, model.in_chans) if model.in_chans in (1, 3) else _gray(data, model.in_chans)
    return Preprocessing(
        model.image, model.in_chans, mean, std, crop_ratio=float(data.crop_pct), interpolation=data.interpolation
    )


def _gray(data: Streamed, in_chans: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the statistics of gray images, repeated over the channels of a model that no files can train."""
    mean, std = channel_statistics(data, 1)
    return mean * in_chans, std * in_chans


def _timm_preprocessing(model: TimmModel, built: nn.Module) -> Preprocessing:
    """Return the preprocessing that timm names for its model; what Pillow does not resize so becomes bicubic."""
    config: Any = getattr(built, "pretrained_cfg", None) or {}
    interpolation = config.get("interpolation")
    return Preprocessing(
        model.image,
        model.in_chans,
        mean=_of_channels(config.get("mean") or IMAGENET_MEAN, model.in_chans),
        std=_of_channels(config.get("std") or IMAGENET_STD, model.in_chans),
        crop_ratio=float(config.get("crop_pct") or 0.875),
        interpolation=interpolation if interpolation in RESAMPLING else "bicubic",
    )


def _of_channels(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    """Return one number for each channel: the given ones, or their average for another count."""
    return tuple(map(float, values)) if len(values) == in_chans else (sum(values) / len(values),) * in_chans


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
