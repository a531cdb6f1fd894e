"""The initial model of a training: built, loaded with the spec's weights, and set up by the recipe."""

from pathlib import Path

import torch
from torch import nn

from t2tbuild.build import build_model
from t2tbuild.errors import FieldError
from t2tbuild.files import exists
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import Weights, is_remote
from t2tbuild.training.optim import freeze
from t2tbuild.training.reports import Listener, Notice
from t2tbuild.weights.load import describe_mismatched_heads, load_spec_weights
from t2tbuild.weights.resolve import resolve_weights


def init_model(spec: Spec, listener: Listener) -> nn.Module:
    """Return the model of a resolved spec, initialised by its seed, with its `weights` loaded and its parts frozen.

    The head stays randomly initialised if the file has other classes; the listener then gets a notice. Raises
    FieldError when the file is missing, or the model lacks an option of the recipe.
    """
    recipe = spec.train
    assert recipe is not None
    torch.manual_seed(recipe.seed)
    model: nn.Module = build_model(spec.model)
    if spec.weights is not None:
        _load_initial_weights(model, spec.weights, listener)
    freeze(model, recipe.freeze)
    if recipe.checkpoint_gradients:
        field = ("train", "checkpoint_gradients")
        _enable(model, "set_grad_checkpointing", field, "does not support gradient checkpointing")
    if recipe.distill is not None and recipe.distill.token == "distillation":  # noqa: S105
        _enable(model, "set_distilled_training", ("train", "distill", "token"), "has no distillation token")
    return model


def _load_initial_weights(model: nn.Module, weights: Weights, listener: Listener) -> None:
    source = resolve_weights(weights.file)
    if not exists(Path(source.path)):
        message = f"{weights.file}: no such file or folder of weights"
        raise FieldError(("weights",), "file", message, "name a checkpoint, safetensors or a run directory")
    reasons = [
        f"\nan earlier checkpoint is used, because a later one is invalid: {reason}" for reason in source.skipped
    ]
    weights = weights if is_remote(weights.file) else weights.model_copy(update={"file": source.file})
    listener(Notice(f"training starts from {weights.file}" + "".join(reasons)))
    if weights.reset_head is None:
        mismatch = describe_mismatched_heads(model, weights.file)
        if mismatch:
            listener(Notice(f"{weights.file} has other classes: the head is randomly initialised ({mismatch})"))
        weights = weights.model_copy(update={"reset_head": bool(mismatch)})
    load_spec_weights(model, weights)


def _enable(model: nn.Module, method: str, field: tuple[str, ...], lack: str) -> None:
    """Call a method that some models of timm do not support. Raises FieldError for those."""
    try:
        getattr(model, method)(True)
    except (AttributeError, AssertionError):
        message = f"timm's {type(model).__name__} {lack}"
        raise FieldError(field, "timm-model", message, "leave it out, or name another model") from None
