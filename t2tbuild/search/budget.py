"""What fits: candidates lie within the budget by construction, since their depth is solved from it."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from t2tbuild.cost import Cost, predict_cost
from t2tbuild.errors import InputError
from t2tbuild.search.space import Space
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Budget, Value
from t2tbuild.spec.units import short_count

ENUMERATED = 20_000  # members; a larger space is walked field by field


def overshoot(cost: Cost, budget: Budget) -> dict[str, int]:
    """By how much a cost exceeds each limit of the budget; zero or less is within it."""
    limits = {"macs": (cost.macs, budget.macs), "params": (cost.params, budget.params)}
    return {name: spent - limit for name, (spent, limit) in limits.items() if limit is not None}


def fits(model: ModelSpec, budget: Budget) -> bool:
    """Whether a model lies within every limit, by the closed form."""
    return all(excess <= 0 for excess in overshoot(predict_cost(model), budget).values())


def deepest(space: Space, assignment: Mapping[str, Value], budget: Budget) -> int | None:
    """The deepest candidate of an assignment within the budget; None when not even the shallowest fits."""
    assert space.fill is not None
    depths = range(space.fill.low, space.fill.high + 1)
    fitting = bisect_right(depths, False, key=lambda depth: not fits(space.model(assignment, depth), budget))
    return depths[fitting - 1] if fitting else None


@dataclass(frozen=True)
class Smallest:
    """The cheapest member of a space in one measure, and its cost there."""

    model: ModelSpec
    measure: str
    cost: int


def require_feasible(space: Space, budget: Budget) -> None:
    """Raises InputError when a limit lies below the smallest member of the space; names that member's cost."""
    for measure in ("macs", "params"):
        limit = getattr(budget, measure)
        if limit is None:
            continue
        smallest = find_smallest(space, measure)
        if smallest.cost > limit:
            raise InputError(
                f"budget: no candidate has {short_count(limit)} {measure} or fewer; the smallest of the space has "
                f"{smallest.cost:,}; raise the budget to at least {_rounded_up(smallest.cost)} or widen search.space"
            )


def find_smallest(space: Space, measure: str) -> Smallest:
    """The cheapest member: of all when they are few, else field by field from the base until nothing gets cheaper.

    Raises InputError when no member is valid.
    """
    depth = space.fill.low if space.fill else None
    if space.size <= ENUMERATED:
        candidates = [assignment for assignment in space.assignments() if space.valid(assignment, depth)]
    else:
        candidates = _descend(space, measure, depth)
    if not candidates:
        raise InputError(f"search.space: no member is a valid model; the base is {space.base.name}")
    models = [space.model(assignment, depth) for assignment in candidates]
    best = min(models, key=lambda model: getattr(predict_cost(model), measure))
    return Smallest(best, measure, getattr(predict_cost(best), measure))


def _descend(space: Space, measure: str, depth: int | None) -> list[dict[str, Value]]:
    current: dict[str, Value] = {path: dimension.values[0] for path, dimension in space.dimensions.items()}
    before = None
    while current != before:
        before = dict(current)
        for path, dimension in space.dimensions.items():
            options = [current | {path: value} for value in dimension.values]
            valid = [option for option in options if space.valid(option, depth)]
            if valid:
                current = min(valid, key=lambda option: getattr(predict_cost(space.model(option, depth)), measure))
    return [current] if space.valid(current, depth) else []


def _rounded_up(number: int) -> str:
    for scale, suffix in ((10**9, "G"), (10**6, "M")):
        if number >= scale:
            hundredths = -(-number * 100 // scale)
            return f"{hundredths / 100:g}{suffix}"
    return str(number)
