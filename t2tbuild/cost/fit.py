"""Find the largest model within a budget along one axis. The cost grows along each axis, so bisection finds it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from t2tbuild.cost.bisection import largest
from t2tbuild.cost.budget import is_over, measure
from t2tbuild.cost.model import Cost
from t2tbuild.cost.predict import predict_cost
from t2tbuild.errors import FieldError
from t2tbuild.spec.backbone import DenseBackbone
from t2tbuild.spec.budget import LABELS, Budget
from t2tbuild.spec.extension.registry import without_forward
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.units import short_count
from t2tbuild.spec.with_changes import with_changes

LIMITS = {"depth": 1000, "width": 65536, "ratio": 64, "side": 16384}
"""The largest values that the spec language allows."""

MAX_TRIES = 64
"""How many values, from the smallest, are tried to find a valid one."""


class Axis(StrEnum):
    """A field that is varied to fill the budget; the fields that depend on it follow."""

    DEPTH = "depth"
    EMBED_DIM = "embed_dim"
    MLP_RATIO = "mlp_ratio"
    GROWTH_RATE = "growth_rate"
    TOKEN_DIM = "token_dim"  # noqa: S105
    IMAGE_SIZE = "image_size"


@dataclass(frozen=True)
class Point:
    """A value on an axis, the model with it, and the model's cost."""

    value: int | float
    model: ModelSpec
    cost: Cost


@dataclass(frozen=True)
class Fit:
    """The largest point within a budget, and the next one, which is over the budget; None if there is no next one."""

    best: Point
    over: Point | None


def fit(model: ModelSpec, budget: Budget, axis: Axis) -> Fit:
    """Find the largest model within `budget` that differs from `model` along one axis.

    Steps of the axes: depth 1; mlp_ratio 0.25, or 1 with ghost MLPs; token_dim 8, the same for all stages that have
    one; image_size by whole patches at a constant aspect ratio; embed_dim and growth_rate by widths that the heads
    divide. With embed_dim the number of heads changes and their width stays, if all blocks have the same.

    Raises FieldError if the model has no such axis, no value on it is valid, or its smallest value is over the budget.

        >>> from t2tbuild import load_spec
        >>> fit(load_spec("t2t_vit_14").model, Budget(macs=10**9), Axis.EMBED_DIM).best.value
        128
    """
    if names := without_forward(model):
        message = f"{model.name} cannot be fitted: {', '.join(names)} has no symbolic forward, which predicts costs"
        raise FieldError(("model",), "axis", message, "give the extension one")
    values = _axis_values(model, axis)

    def valid(value: int | float) -> bool:
        return _point_or_none(model, axis, value) is not None

    def within(value: int | float) -> bool:
        point = _point_or_none(model, axis, value)  # none: larger than the spec language allows
        return point is not None and not is_over(point.model, budget)

    if isinstance(model.backbone, DenseBackbone) and axis in (Axis.EMBED_DIM, Axis.GROWTH_RATE):
        # The widths that every transition can halve follow no step.
        values = list(_valid_up_to_budget(model, axis, values, budget))
    # Values that are too small are invalid too: the image is smaller than a patch, a Performer has no random feature.
    first = next((index for index, value in enumerate(values[:MAX_TRIES]) if valid(value)), None)
    if first is None:
        message = f"{model.name} cannot be fitted: no other {axis} is valid with its other fields"
        raise FieldError(("model", *_path(axis)), "axis", message, f"choose another: {', '.join(_axes_of(model))}")
    values = values[first:]
    best = largest(values, within)
    if best is None:
        raise _over_budget_error(_point(model, axis, values[0]), axis, budget)
    following = values[values.index(best) + 1 :][:1]
    return Fit(_point(model, axis, best), _point_or_none(model, axis, following[0]) if following else None)


def _valid_up_to_budget(
    model: ModelSpec, axis: Axis, values: Iterable[int | float], budget: Budget
) -> Iterator[int | float]:
    """Yield the valid ones of increasing values, up to the first over the budget."""
    for value in values:
        if point := _point_or_none(model, axis, value):
            yield value
            if is_over(point.model, budget):
                return


def _point_or_none(model: ModelSpec, axis: Axis, value: int | float) -> Point | None:
    """Return the point of a value, None where the rest of the model does not allow the value."""
    try:
        return _point(model, axis, value)
    except FieldError:
        return None


def _point(model: ModelSpec, axis: Axis, value: int | float) -> Point:
    """Return the point of a value on an axis. Raises FieldError if the rest of the model does not allow the value."""
    path = ("model", *_path(axis))
    purpose = f"fitted with {axis} {value:g}"
    changed = with_changes(
        model, _changes(model, axis, value), purpose, (path, "set that field, or choose another axis")
    )
    return Point(value, changed, predict_cost(changed))


def _path(axis: Axis) -> tuple[str, ...]:
    """Return the place of an axis in the model's spec."""
    match axis:
        case Axis.IMAGE_SIZE:
            return (axis.value,)
        case Axis.TOKEN_DIM:
            return ("tokenizer", "stages")
        case _:
            return ("backbone", axis.value)


def _axis_values(model: ModelSpec, axis: Axis) -> Sequence[int | float]:
    """Return the values of an axis in increasing order. Raises FieldError if the model has no such axis."""
    backbone = model.backbone
    match axis:
        case Axis.DEPTH if _has_depth(model):
            for field in ("num_heads", "mlp_ratio"):
                if isinstance(getattr(backbone, field), tuple):
                    message = f"{model.name} cannot be fitted with another depth: {field} lists one value per block"
                    raise FieldError(("model", "backbone", field), "axis", message, "write one value for all blocks")
            return range(1, LIMITS["depth"] + 1)
        case Axis.GROWTH_RATE if isinstance(backbone, DenseBackbone):
            return _multiples(backbone.growth_rate, _width_step(model), LIMITS["width"])
        case Axis.EMBED_DIM:
            return _multiples(backbone.embed_dim, _width_step(model), LIMITS["width"])
        case Axis.MLP_RATIO:
            if backbone.ghost is not None and backbone.ghost.mlp:
                return range(1, LIMITS["ratio"] + 1)
            return [_to_int(n / 4) for n in range(1, 4 * LIMITS["ratio"] + 1)]
        case Axis.TOKEN_DIM if _has_token_dim(model):
            return _multiples(model.tokenizer.windows[0].token_dim, 8, LIMITS["width"])
        case Axis.IMAGE_SIZE:
            step = _side_step(model)
            return range(step, LIMITS["side"] * model.image.height // max(model.image) + 1, step)
        case Axis.DEPTH | Axis.GROWTH_RATE | Axis.TOKEN_DIM:
            kinds = f"its backbone is {backbone.kind}, its tokenizer {model.tokenizer.kind}"
            message = f"{model.name} has no {axis}: {kinds}"
            raise FieldError(("model",), "axis", message, f"choose another: {', '.join(_axes_of(model))}")
        case _:
            assert_never(axis)


def _axes_of(model: ModelSpec) -> list[Axis]:
    """Return the axes of a model."""
    own = [Axis.EMBED_DIM, Axis.MLP_RATIO, Axis.IMAGE_SIZE]
    own += [Axis.GROWTH_RATE] * isinstance(model.backbone, DenseBackbone)
    return own + [Axis.DEPTH] * _has_depth(model) + [Axis.TOKEN_DIM] * _has_token_dim(model)


def _has_depth(model: ModelSpec) -> bool:
    return not isinstance(model.backbone, DenseBackbone) and "depth" in type(model.backbone).model_fields


def _has_token_dim(model: ModelSpec) -> bool:
    return "stages" in type(model.tokenizer).model_fields and model.tokenizer.windows[0].token_dim is not None


def _changes(model: ModelSpec, axis: Axis, value: int | float) -> dict[str, Any]:
    """Return the model's top-level fields with a value set on an axis."""
    backbone, tokenizer = model.backbone.model_dump(), model.tokenizer.model_dump()
    match axis:
        case Axis.EMBED_DIM:
            head_dim = _head_dim(model)
            heads = {"num_heads": None, "head_dim": head_dim} if head_dim else {}
            return {"backbone": backbone | heads | {"embed_dim": value}}
        case Axis.DEPTH | Axis.MLP_RATIO | Axis.GROWTH_RATE:
            return {"backbone": backbone | {axis.value: value}}
        case Axis.TOKEN_DIM:
            *below, last = tokenizer["stages"]
            return {"tokenizer": tokenizer | {"stages": [*(stage | {"token_dim": value} for stage in below), last]}}
        case Axis.IMAGE_SIZE:
            height, width = model.image
            square = isinstance(model.image_size, int)
            return {"image_size": value if square else (value, int(value) * width // height)}
        case _:
            assert_never(axis)


def _head_dim(model: ModelSpec) -> int | None:
    """Return the channels per head if all blocks of a plain backbone have the same, else None."""
    backbone = model.backbone
    if isinstance(backbone, DenseBackbone) or len(set(backbone.heads)) > 1:
        return None
    return backbone.embed_dim // backbone.heads[0]


def _width_step(model: ModelSpec) -> int:
    """Return the step of a plain backbone's width: the heads divide it, and ghost attention can halve it."""
    backbone = model.backbone
    if isinstance(backbone, DenseBackbone):
        return 1
    step = _head_dim(model) or math.lcm(*set(backbone.heads))
    return math.lcm(step, 2) if backbone.ghost and backbone.ghost.attention else step


def _side_step(model: ModelSpec) -> int:
    """Return the step of an image's height that keeps the aspect ratio, with whole patches along both sides."""
    stride = math.prod(window.stride for window in model.tokenizer.windows)
    height, width = model.image
    common = math.gcd(height, width)
    return height // common * stride


def _multiples(own: int | None, step: int, limit: int) -> Sequence[int]:
    """Return values at a distance of `step` that include the model's own."""
    return range((own or step) % step or step, limit + 1, step)


def _to_int(number: float) -> int | float:
    """Return an integral number as an int."""
    return int(number) if number == int(number) else number


def _over_budget_error(smallest: Point, axis: Axis, budget: Budget) -> FieldError:
    """Return the error for an axis whose smallest point is over the budget."""
    measures = measure(smallest.model, budget)
    limits = {name: bounds.max for name, bounds in budget.limits.items() if bounds.max is not None}
    message = " and ".join(
        f"{measures[name]:,} {LABELS[name]}, over {short_count(limit)}"
        for name, limit in limits.items()
        if measures[name] > limit
    )
    hint = "raise the budget, or choose another axis"
    return FieldError(
        ("model", *_path(axis)), "budget", f"the smallest {axis}, {smallest.value:g}, has {message}", hint
    )
