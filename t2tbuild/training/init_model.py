"""Where training starts from: the built model with the weights of the spec, and what the recipe makes of it."""

from pathlib import Path

import torch
from torch import nn

from t2tbuild.build import build_model
from t2tbuild.errors import FieldError
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import LOCAL_DIR, Weights
from t2tbuild.training.optim import freeze
from t2tbuild.training.reports import Listener, Notice
from t2tbuild.weights.load import load_named, other_heads
from t2tbuild.weights.read import newest_of_run


def build_for_training(spec: Spec, listener: Listener) -> nn.Module:
    """The model of a resolved spec with fresh weights by its seed, those of `weights` loaded, parts frozen.

    The head stays fresh where the file's has another number of classes, and the listener is told.
    """
    recipe = spec.train
    assert recipe is not None
    torch.manual_seed(recipe.seed)
    model: nn.Module = build_model(spec.model)
    if spec.weights is not None:
        _load(model, spec.weights, listener)
    freeze(model, recipe.freeze)
    if recipe.checkpoint_gradients:
        _switch(model, "set_grad_checkpointing", ("train", "checkpoint_gradients"), "cannot compute its inside again")
    if recipe.distill is not None and recipe.distill.token == "distillation":  # noqa: S105
        _switch(model, "set_distilled_training", ("train", "distill", "token"), "has no distillation token")
    return model


def _load(model: nn.Module, weights: Weights, listener: Listener) -> None:
    if not Path(weights.file.removeprefix(LOCAL_DIR)).exists():
        message = f"{weights.file}: no such file or folder of weights"
        raise FieldError(("weights",), "file", message, "name a checkpoint, safetensors or a run directory")
    checkpoint, broken = newest_of_run(Path(weights.file))
    message = "\nbroken, so it is an earlier one: ".join(["starts from {checkpoint}", *broken])
    listener(Notice(message.format(checkpoint=checkpoint)))
    weights = weights.model_copy(update={"file": str(checkpoint)})
    if weights.reset_head is None:
        other = other_heads(model, weights.file)
        if other:
            listener(Notice(f"{weights.file} is for other classes: the head starts fresh ({other})"))
        weights = weights.model_copy(update={"reset_head": bool(other)})
    load_named(model, weights)


def _switch(model: nn.Module, method: str, field: tuple[str, ...], lack: str) -> None:
    """Turn on what some models of timm cannot do. Raises FieldError when this one cannot."""
    try:
        getattr(model, method)(True)
    except (AttributeError, AssertionError):
        message = f"timm's {type(model).__name__} {lack}"
        raise FieldError(field, "timm-model", message, "leave it out, or name another model") from None
