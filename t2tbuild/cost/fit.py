"""The largest model within a budget along one dial: solved from the closed form, since every dial only adds cost."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, assert_never

from t2tbuild.cost.closed_form import predict_cost
from t2tbuild.cost.model import Cost
from t2tbuild.errors import FieldError
from t2tbuild.spec.backbone import DenseBackbone
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.units import short_count
from t2tbuild.spec.with_changes import with_changes

T = TypeVar("T")
MOST = {"depth": 1000, "width": 65536, "ratio": 64, "side": 16384}
"""The largest values that the spec language admits."""
COUNTED = ("macs", "params")
"""The measures of a budget that `predict_cost` tells."""
SMALLEST = 64
"""Values of a dial, from the smallest, among which one that is valid is looked for."""


class Axis(StrEnum):
    """A field that can be turned until the budget is full; what else follows from it."""

    DEPTH = "depth"
    EMBED_DIM = "embed_dim"
    MLP_RATIO = "mlp_ratio"
    GROWTH_RATE = "growth_rate"
    TOKEN_DIM = "token_dim"  # noqa: S105
    IMAGE_SIZE = "image_size"


@dataclass(frozen=True)
class Point:
    """A dial's value, the model that it makes, and what that costs."""

    value: int | float
    model: ModelSpec
    cost: Cost


@dataclass(frozen=True)
class Fit:
    """The largest setting of a dial within a budget, and the next larger one, which is over; None beyond the last."""

    best: Point
    over: Point | None


def largest(values: Sequence[T], fits: Callable[[T], bool]) -> T | None:
    """The last of rising values that fits, by bisection; None when not even the first does.

    Once a value does not fit, no later one may.

    >>> largest(range(1, 65), lambda depth: depth * 340 <= 5000)
    14
    """
    fitting = bisect_right(values, False, key=lambda value: not fits(value))
    return values[fitting - 1] if fitting else None


def overshoot(budget: Budget, cost: Cost) -> dict[str, int]:
    """By how much a cost exceeds the most of each counted measure; zero or less is within it."""
    limits = {name: bounds.max for name, bounds in budget.limits.items() if name in COUNTED}
    return {name: getattr(cost, name) - limit for name, limit in limits.items() if limit is not None}


def is_within(cost: Cost, budget: Budget) -> bool:
    """Whether a cost keeps the most of every counted measure."""
    return all(excess <= 0 for excess in overshoot(budget, cost).values())


def fit(model: ModelSpec, budget: Budget, dial: Axis) -> Fit:
    """The largest model within `budget` that differs from `model` in one dial.

    A dial is turned in steps: depth of 1; mlp_ratio of 0.25, of 1 where it is ghosted; token_dim, of every stage that
    has one, of 8; image_size by whole patches that keep the image's shape; embed_dim and growth_rate by what keeps the
    heads even. With embed_dim the number of heads follows, and their channels stay, where all blocks have the same.

    Raises FieldError when the model has no such dial, no value of it is valid, or its smallest is over the budget.

        >>> from t2tbuild import load_spec
        >>> fit(load_spec("t2t_vit_14").model, Budget(macs=10**9), Dial.EMBED_DIM).best.value
        128
    """
    values = _values(model, dial)

    def valid(value: int | float) -> bool:
        try:
            _set(model, dial, value)
        except FieldError:
            return False
        return True

    def within(value: int | float) -> bool:
        try:
            return is_within(_set(model, dial, value).cost, budget)
        except FieldError:  # larger than the language admits
            return False

    if isinstance(model.backbone, DenseBackbone) and dial in (Axis.EMBED_DIM, Axis.GROWTH_RATE):
        values = list(_sound(model, dial, values, budget))  # which widths halve evenly at every transition is irregular
    # Too small a value breaks a rule as too large a one does: a patch does not fit, no random feature is left.
    first = next((index for index, value in enumerate(values[:SMALLEST]) if valid(value)), None)
    if first is None:
        message = f"{model.name} cannot be fitted: no other {dial} is valid beside its other fields"
        raise FieldError(("model", *_path(dial)), "dial", message, f"free another: {', '.join(_dials_of(model))}")
    values = values[first:]
    best = largest(values, within)
    if best is None:
        raise _nothing_fits(_set(model, dial, values[0]), dial, budget)
    rest = values[values.index(best) + 1 :][:1]
    return Fit(_set(model, dial, best), _over(model, dial, rest))


def _sound(model: ModelSpec, dial: Axis, values: Iterable[int | float], budget: Budget) -> Iterator[int | float]:
    """The valid ones of rising values, up to the first that is over the budget."""
    for value in values:
        try:
            setting = _set(model, dial, value)
        except FieldError:
            continue
        yield value
        if not is_within(setting.cost, budget):
            return


def _over(model: ModelSpec, dial: Axis, values: Iterable[int | float]) -> Point | None:
    for value in values:
        try:
            return _set(model, dial, value)
        except FieldError:
            break
    return None


def _set(model: ModelSpec, dial: Axis, value: int | float) -> Point:
    """The model with its dial set. Raises FieldError where the rest of the model does not allow that."""
    path = ("model", *_path(dial))
    purpose = f"fitted with {dial} {value:g}"
    turned = with_changes(model, _changes(model, dial, value), purpose, (path, "set that field, or free another"))
    return Point(value, turned, predict_cost(turned))


def _path(dial: Axis) -> tuple[str, ...]:
    match dial:
        case Axis.IMAGE_SIZE:
            return (dial.value,)
        case Axis.TOKEN_DIM:
            return ("tokenizer", "stages")
        case _:
            return ("backbone", dial.value)


def _values(model: ModelSpec, dial: Axis) -> Sequence[int | float]:
    """What a dial can be set to, rising. Raises FieldError where the model has no such dial."""
    backbone = model.backbone
    dense = isinstance(backbone, DenseBackbone)
    match dial:
        case Axis.DEPTH if not dense:
            for field in ("num_heads", "mlp_ratio"):
                if isinstance(getattr(backbone, field), tuple):
                    message = f"{model.name} cannot be fitted with another depth: {field} lists one value a block"
                    raise FieldError(("model", "backbone", field), "dial", message, "write one value for all blocks")
            return range(1, MOST["depth"] + 1)
        case Axis.GROWTH_RATE if isinstance(backbone, DenseBackbone):
            return _steps(backbone.growth_rate, _width_step(model), MOST["width"])
        case Axis.EMBED_DIM:
            return _steps(backbone.embed_dim, _width_step(model), MOST["width"])
        case Axis.MLP_RATIO:
            whole = backbone.ghost is not None and backbone.ghost.mlp
            return range(1, MOST["ratio"] + 1) if whole else [_plain(n / 4) for n in range(1, 4 * MOST["ratio"] + 1)]
        case Axis.TOKEN_DIM if model.tokenizer.windows[0].token_dim is not None:
            return _steps(model.tokenizer.windows[0].token_dim, 8, MOST["width"])
        case Axis.IMAGE_SIZE:
            step = _side_step(model)
            return range(step, MOST["side"] * model.image.height // max(model.image) + 1, step)
        case Axis.DEPTH | Axis.GROWTH_RATE | Axis.TOKEN_DIM:
            kinds = f"its backbone is {backbone.kind}, its tokenizer {model.tokenizer.kind}"
            message = f"{model.name} has no {dial} to set: {kinds}"
            raise FieldError(("model",), "dial", message, f"free another: {', '.join(_dials_of(model))}")
        case _:
            assert_never(dial)


def _dials_of(model: ModelSpec) -> list[Axis]:
    """The dials that a model has."""
    dense, staged = isinstance(model.backbone, DenseBackbone), model.tokenizer.windows[0].token_dim is not None
    own = [Axis.EMBED_DIM, Axis.MLP_RATIO, Axis.IMAGE_SIZE]
    own += [Axis.GROWTH_RATE] * dense + [Axis.DEPTH] * (not dense) + [Axis.TOKEN_DIM] * staged
    return own


def _changes(model: ModelSpec, dial: Axis, value: int | float) -> dict[str, Any]:
    """The model's top-level fields that setting a dial replaces."""
    backbone, tokenizer = model.backbone.model_dump(), model.tokenizer.model_dump()
    match dial:
        case Axis.EMBED_DIM:
            head_dim = _head_dim(model)
            heads = {"num_heads": None, "head_dim": head_dim} if head_dim else {}
            return {"backbone": backbone | heads | {"embed_dim": value}}
        case Axis.DEPTH | Axis.MLP_RATIO | Axis.GROWTH_RATE:
            return {"backbone": backbone | {dial.value: value}}
        case Axis.TOKEN_DIM:
            *below, last = tokenizer["stages"]
            return {"tokenizer": tokenizer | {"stages": [*(stage | {"token_dim": value} for stage in below), last]}}
        case Axis.IMAGE_SIZE:
            height, width = model.image
            square = isinstance(model.image_size, int)
            return {"image_size": value if square else (value, int(value) * width // height)}
        case _:
            assert_never(dial)


def _head_dim(model: ModelSpec) -> int | None:
    """Channels of a head, where every block of a plain backbone has the same."""
    backbone = model.backbone
    if isinstance(backbone, DenseBackbone) or len(set(backbone.heads)) > 1:
        return None
    return backbone.embed_dim // backbone.heads[0]


def _width_step(model: ModelSpec) -> int:
    """By what a plain backbone's width grows so that heads divide it, and ghost attention can halve it."""
    backbone = model.backbone
    if isinstance(backbone, DenseBackbone):
        return 1
    step = _head_dim(model) or math.lcm(*set(backbone.heads))
    return math.lcm(step, 2) if backbone.ghost and backbone.ghost.attention else step


def _side_step(model: ModelSpec) -> int:
    """By what an image's height grows so that its shape stays and both sides remain whole patches."""
    stride = math.prod(window.stride for window in model.tokenizer.windows)
    height, width = model.image
    common = math.gcd(height, width)
    return height // common * stride


def _steps(own: int | None, step: int, most: int) -> Sequence[int]:
    """Values a step apart, the model's own among them."""
    return range((own or step) % step or step, most + 1, step)


def _plain(number: float) -> int | float:
    return int(number) if number == int(number) else number


def _nothing_fits(smallest: Point, dial: Axis, budget: Budget) -> FieldError:
    """What is said when the smallest setting of a dial is over the budget."""
    spent = {"macs": smallest.cost.macs, "params": smallest.cost.params}
    over = {name: excess for name, excess in overshoot(budget, smallest.cost).items() if excess > 0}
    message = " and ".join(
        f"{spent[name]:,} {name}, over {short_count(spent[name] - more)}" for name, more in over.items()
    )
    hint = "raise the budget, or free another field"
    return FieldError(
        ("model", *_path(dial)), "budget", f"the smallest {dial}, {smallest.value:g}, has {message}", hint
    )
