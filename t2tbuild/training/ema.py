"""Averaged weights (EMA): a running average of a model's weights, which is evaluated and saved in their place."""

from timm.utils.model_ema import ModelEmaV3
from torch import nn


def create_ema(model: nn.Module, decay: float | None) -> ModelEmaV3 | None:
    """Return timm's running average of a model, or None without a decay. Call its `update` after each step.

    A model whose state is its parameters alone is averaged by them: to list the state dicts takes longer than to
    average, and the result is the same to the bit.
    """
    if decay is None:
        return None
    only_parameters = model.state_dict().keys() == {name for name, _ in model.named_parameters()}
    return ModelEmaV3(model, decay=float(decay), exclude_buffers=only_parameters)


def averaged_model(model: nn.Module, ema: ModelEmaV3 | None) -> nn.Module:
    """Return the model to evaluate: the averaged one, where there is an average."""
    averaged: nn.Module = model if ema is None else ema.module
    return averaged
