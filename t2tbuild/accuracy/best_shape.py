"""The backbone of the best predicted accuracy within a budget: width and MLP ratio vary, the depth follows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from t2tbuild.accuracy.predictor import DEFAULT_RECIPE, Accuracy, predict_accuracy
from t2tbuild.cost.fit import largest
from t2tbuild.errors import FieldError
from t2tbuild.spec.backbone import PlainBackbone
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.with_changes import with_changes

WIDEST, DEEPEST = 1280, 64
"""The widest and deepest backbones that are considered; wider and deeper ones were not published."""
RATIOS = (2, 3, 4)
"""MLP ratios that are considered beside the model's own."""


@dataclass(frozen=True)
class BestShape:
    """A model and its predicted accuracy."""

    model: ModelSpec
    accuracy: Accuracy


def best_shapes(model: ModelSpec, fits: Callable[[ModelSpec], bool], recipe: str = DEFAULT_RECIPE) -> list[BestShape]:
    """The backbones that `fits` admits, with the tokenizer and options of `model`, best first.

    Each width, by whole heads, and MLP ratio has the largest depth that fits. The order is that of the interval's lower
    end: of two equal predictions the one of which more is known comes first. Empty where nothing that fits is near a
    published model. Raises FieldError for a dense backbone, and for one with a value a block.
    """
    found = []
    for width, ratio in _shapes(model):
        depth = largest(range(1, DEEPEST + 1), partial(_fits, fits, model, width, ratio))
        if depth is not None:
            shaped = with_shape(model, width, ratio, depth)
            found.append(BestShape(shaped, predict_accuracy(shaped, recipe)))
    predicted = [one for one in found if one.accuracy.low is not None]
    return sorted(predicted, key=lambda one: -(one.accuracy.low or 0.0))


def _shapes(model: ModelSpec) -> Iterator[tuple[int, int | float]]:
    backbone = model.backbone
    if not isinstance(backbone, PlainBackbone):
        message = f"a shape is a depth and a width, which the {backbone.kind} backbone of {model.name} does not have"
        raise FieldError(("model", "backbone", "kind"), "by-accuracy", message, "name a model with a plain backbone")
    if isinstance(backbone.mlp_ratio, tuple) or isinstance(backbone.num_heads, tuple):
        field = "mlp_ratio" if isinstance(backbone.mlp_ratio, tuple) else "num_heads"
        message = f"{field} lists a value for each block, so another depth has none"
        raise FieldError(("model", "backbone", field), "by-accuracy", message, "write one value for all blocks")
    head_dim = backbone.embed_dim // backbone.heads[0]
    ratios = dict.fromkeys((backbone.mlp_ratio, *RATIOS))
    for width in range(head_dim, WIDEST + 1, head_dim):
        for ratio in ratios:
            yield width, ratio


def _fits(fits: Callable[[ModelSpec], bool], model: ModelSpec, width: int, ratio: int | float, depth: int) -> bool:
    return fits(with_shape(model, width, ratio, depth))


def with_shape(model: ModelSpec, width: int, ratio: int | float, depth: int) -> ModelSpec:
    """The model with a plain backbone of another width, MLP ratio and depth, and as many channels a head."""
    backbone = model.backbone
    head_dim = backbone.embed_dim // backbone.heads[0]
    changes = {"depth": depth, "embed_dim": width, "mlp_ratio": ratio, "num_heads": None, "head_dim": head_dim}
    return with_changes(model, {"backbone": backbone.model_dump() | changes}, f"shaped as {depth} x {width}")


def named_by_shape(model: ModelSpec, shaped: ModelSpec) -> ModelSpec:
    """A reshaped model under the name of the one that it was made from, with its depth and width: t2t_vit_14_18x320."""
    name = f"{model.name[:48]}_{shaped.backbone.depth}x{shaped.backbone.embed_dim}"
    return shaped.model_copy(update={"name": name})
