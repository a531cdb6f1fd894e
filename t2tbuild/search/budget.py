"""What fits: candidates lie within the budget by construction, since their depth is solved from it."""

from collections.abc import Mapping

from t2tbuild.cost import Cost, predict_cost
from t2tbuild.cost.fit import fits, is_within, largest
from t2tbuild.errors import FieldError
from t2tbuild.search.space import Space
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Budget, Value
from t2tbuild.spec.units import short_count

ENUMERATED = 2_000  # members that are looked at before a search; of a larger space no verdict is given beforehand


def deepest(space: Space, assignment: Mapping[str, Value], budget: Budget) -> int | None:
    """The deepest candidate of an assignment within the budget; None when not even the shallowest fits."""
    assert space.fill is not None
    depths = range(space.fill.low, space.fill.high + 1)
    return largest(depths, lambda depth: fits(space.model(assignment, depth), budget))


def require_feasible(space: Space, budget: Budget) -> list[ModelSpec]:
    """The first members within the budget, at most two, each at its shallowest where the depth is solved.

    Raises FieldError when there is none; it names the smallest member's cost. A space of more than ENUMERATED members
    passes unseen, with none given back: each of its candidates is looked at when it is drawn.
    """
    if space.size > ENUMERATED:
        return []
    costs: list[Cost] = []
    fitting: list[ModelSpec] = []
    for model in space.members():
        costs.append(predict_cost(model))
        fitting += [model] if is_within(costs[-1], budget) else []
        if len(fitting) == 2:
            return fitting
    if not costs:
        told = f"no member is a valid model; of the first, {space.first_mistake()}"
        raise FieldError(("search", "space"), "space", told, "change its values, or add the field that they need")
    if not fitting:
        raise _none_fits(costs, budget)
    return fitting


def _none_fits(costs: list[Cost], budget: Budget) -> FieldError:
    """What is said when every member is over the budget."""
    for measure, limit in (("macs", budget.macs), ("params", budget.params)):
        smallest = min(getattr(cost, measure) for cost in costs)
        if limit is not None and smallest > limit:
            return FieldError(
                ("search", "budget", measure),
                "budget",
                f"no candidate has {short_count(limit)} {measure} or fewer; the smallest of the space has {smallest:,}",
                f"write at least {_rounded_up(smallest)}, or widen search.space",
            )
    macs, params = min(costs, key=lambda cost: cost.macs), min(costs, key=lambda cost: cost.params)
    return FieldError(
        ("search", "budget"),
        "budget",
        f"no candidate keeps both limits; that with the fewest MACs has {macs.macs:,} and {macs.params:,} parameters, "
        f"that with the fewest parameters has {params.macs:,} and {params.params:,}",
        "raise one of them, or widen search.space",
    )


def _rounded_up(number: int) -> str:
    for scale, suffix in ((10**9, "G"), (10**6, "M")):
        if number >= scale:
            hundredths = -(-number * 100 // scale)
            return f"{hundredths / 100:g}{suffix}"
    return str(number)
