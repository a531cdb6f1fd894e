"""The backbones of the best predicted accuracy within a budget: width and MLP ratio vary, depth is the largest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from t2tbuild.accuracy.predictor import DEFAULT_RECIPE, Accuracy, predict_accuracy
from t2tbuild.cost.bisection import largest
from t2tbuild.errors import FieldError
from t2tbuild.spec.backbone import PlainBackbone
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.with_changes import with_changes

MAX_WIDTH, MAX_DEPTH = 1280, 64
"""The largest width and depth that are considered; no larger ones were published."""
MLP_RATIOS = (2, 3, 4)
"""MLP ratios that are considered besides the model's own."""


@dataclass(frozen=True)
class BestShape:
    """A model and its predicted accuracy."""

    model: ModelSpec
    accuracy: Accuracy


def best_shapes(model: ModelSpec, fits: Callable[[ModelSpec], bool], recipe: str = DEFAULT_RECIPE) -> list[BestShape]:
    """Return models with the tokenizer and options of `model` for which `fits` is true, best predicted first.

    Each width (a multiple of the head dimension) and MLP ratio gets the largest depth that fits. Models are ordered by
    the lower end of the accuracy's interval. The list is empty where none that fits is near a published model. Raises
    FieldError for a dense backbone and for one value per block.
    """
    error = shape_error(model)
    if error is not None:
        raise error
    found = []
    for width, ratio in _candidate_shapes(model):
        depth = largest(range(1, MAX_DEPTH + 1), partial(_fits, fits, model, width, ratio))
        if depth is not None:
            shaped = with_shape(model, width, ratio, depth)
            found.append(BestShape(shaped, predict_accuracy(shaped, recipe)))
    predicted = [one for one in found if one.accuracy.low is not None]
    return sorted(predicted, key=lambda one: -(one.accuracy.low or 0.0))


def shape_error(model: ModelSpec) -> FieldError | None:
    """Return the error of a model without a single depth and width: a dense backbone, or one value per block."""
    backbone = model.backbone
    if not isinstance(backbone, PlainBackbone):
        message = f"a shape is a depth and a width, which the {backbone.kind} backbone of {model.name} does not have"
        return FieldError(("model", "backbone", "kind"), "by-accuracy", message, "name a model with a plain backbone")
    if isinstance(backbone.mlp_ratio, tuple) or isinstance(backbone.num_heads, tuple):
        field = "mlp_ratio" if isinstance(backbone.mlp_ratio, tuple) else "num_heads"
        message = f"{field} lists a value for each block, so the depth cannot vary"
        return FieldError(("model", "backbone", field), "by-accuracy", message, "write one value for all blocks")
    return None


def _candidate_shapes(model: ModelSpec) -> Iterator[tuple[int, int | float]]:
    """Yield the widths and MLP ratios to try."""
    backbone = model.backbone
    assert isinstance(backbone, PlainBackbone) and not isinstance(backbone.mlp_ratio, tuple)
    head_dim = backbone.embed_dim // backbone.heads[0]
    ratios = dict.fromkeys((backbone.mlp_ratio, *MLP_RATIOS))
    for width in range(head_dim, MAX_WIDTH + 1, head_dim):
        for ratio in ratios:
            yield width, ratio


def _fits(fits: Callable[[ModelSpec], bool], model: ModelSpec, width: int, ratio: int | float, depth: int) -> bool:
    """Whether a shape is valid with the other fields, such as the reduction of squeeze-and-excitation, and fits."""
    try:
        return fits(with_shape(model, width, ratio, depth))
    except FieldError:
        return False


def with_shape(model: ModelSpec, width: int, ratio: int | float, depth: int) -> ModelSpec:
    """Return the model with another width, MLP ratio and depth, and the same channels per head."""
    backbone = model.backbone
    head_dim = backbone.embed_dim // backbone.heads[0]
    changes = {"depth": depth, "embed_dim": width, "mlp_ratio": ratio, "num_heads": None, "head_dim": head_dim}
    return with_changes(model, {"backbone": backbone.model_dump() | changes}, f"shaped as {depth} x {width}")


def name_by_shape(model: ModelSpec, shaped: ModelSpec) -> ModelSpec:
    """Return a reshaped model named after the original and its shape: t2t_vit_14_18x320."""
    name = f"{model.name[:48]}_{shaped.backbone.depth}x{shaped.backbone.embed_dim}"
    return shaped.model_copy(update={"name": name})
