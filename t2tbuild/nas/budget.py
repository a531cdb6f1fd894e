"""What fits: candidates lie within the budget by construction, since a field of theirs is solved from it."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from t2tbuild.cost import predict_cost
from t2tbuild.cost.fit import COUNTED, largest
from t2tbuild.cost.memory import predict_memory
from t2tbuild.errors import FieldError
from t2tbuild.nas.record import key_of
from t2tbuild.nas.space import FILL, Assignment, Space, category, mistake_of, value_at
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.space import Fill, Value
from t2tbuild.spec.units import short_count

Measures = Mapping[str, float]
ENUMERATED = 2_000  # assignments that are looked at before a search


class Infeasible(Exception):  # noqa: N818  # no error: another is drawn
    """An assignment that makes no model within the budget, and why."""


def measures_of(model: ModelSpec, budget: Budget) -> dict[str, float]:
    """MACs and parameters by the closed form, and each other measure that the budget limits."""
    cost = predict_cost(model)
    found: dict[str, float] = {name: getattr(cost, name) for name in COUNTED}
    if budget.activations is not None:
        found["activations"] = predict_memory(model).activations
    return found


def excess(measures: Measures, budget: Budget) -> dict[str, float]:
    """By how much each limited measure lies outside its bounds; zero or less is within them."""
    return {name: bounds.excess(measures[name]) for name, bounds in budget.limits.items()}


def is_within(measures: Measures, budget: Budget) -> bool:
    """Whether measures lie within every bound."""
    return all(amount <= 0 for amount in excess(measures, budget).values())


def within(model: ModelSpec, budget: Budget) -> bool:
    """Whether a model lies within every bound, by the closed form."""
    return is_within(measures_of(model, budget), budget)


def solve(space: Space, assignment: Mapping[str, Value], budget: Budget, name: str = "candidate") -> ModelSpec:
    """The candidate of an assignment, the solved field at its fraction of the largest value that the budget admits.

    Raises Infeasible when the fields do not go together or no value lies within the budget.
    """
    try:
        if space.solved is None:
            model = space.model(assignment, name=name)
            if not within(model, budget):
                raise Infeasible("over budget" if is_over(model, budget) else "below the budget's least")
            return model
        least, most = solved_range(space, assignment, budget)
        value = _at(space.solved.fill, float(assignment[FILL]), least, most)
        return space.model(assignment, value, name)
    except (ValidationError, LookupError) as error:
        raise Infeasible(mistake_of(error)) from None


def solved_values(space: Space, assignment: Mapping[str, Value], budget: Budget) -> tuple[int, range]:
    """The largest value of the solved field within the budget, and the values that its fractions give.

    Raises what `solved_range` raises.
    """
    assert space.solved is not None
    least, most = solved_range(space, assignment, budget)
    first, last = (_at(space.solved.fill, fraction, least, most) for fraction in space.solved.fill.fill)
    return most, range(first, last + 1, space.solved.fill.step)


def _at(fill: Fill, fraction: float, least: int, most: int) -> int:
    """The value nearest to a fraction of the largest, within the budget."""
    value = fill.low + int((fraction * most - fill.low) / fill.step + 0.5) * fill.step
    return min(max(value, least), most)


def solved_range(space: Space, assignment: Mapping[str, Value], budget: Budget) -> tuple[int, int]:
    """The smallest and the largest value of the solved field within the budget.

    Raises Infeasible when there is none, ValidationError or LookupError when the fields do not go together.
    """
    assert space.solved is not None
    values = space.solved.fill.values
    most = largest(values, lambda value: not is_over(space.model(assignment, value), budget))
    if most is None:
        raise Infeasible(f"over budget at every {space.solved.path.rpartition('.')[2]}")
    least = values[0]
    if any(bounds.min is not None for bounds in budget.limits.values()):
        below = largest(values, lambda value: _too_small(space.model(assignment, value), budget))
        rest = values if below is None else values[values.index(below) + 1 :]
        if not rest or rest[0] > most:
            raise Infeasible("no value lies between the budget's least and its most")
        least = rest[0]
    return least, most


def is_over(model: ModelSpec, budget: Budget) -> bool:
    """Whether a model exceeds an upper bound, by the closed form."""
    measures = measures_of(model, budget)
    return any(limit.max is not None and measures[name] > limit.max for name, limit in budget.limits.items())


def _too_small(model: ModelSpec, budget: Budget) -> bool:
    measures = measures_of(model, budget)
    return any(limit.min is not None and measures[name] < limit.min for name, limit in budget.limits.items())


def params_of(space: Space, model: ModelSpec, budget: Budget) -> dict[str, Any] | None:
    """What Optuna is told of a model that is a member of a space; None where it is none."""
    assignment = space.locate(model)
    if assignment is None:
        return None
    try:
        if space.solved is not None:
            _, most = solved_range(space, assignment, budget)
            assignment[FILL] = min(1.0, value_at(model, space.solved.path) / most)
            low, high = space.solved.fill.fill
            if not low <= assignment[FILL] <= high:
                return None
        same = key_of(solve(space, assignment, budget)) == key_of(model)
    except (Infeasible, ValidationError, LookupError):
        return None
    return {path: category(value) for path, value in assignment.items()} if same else None


def require_feasible(space: Space, budget: Budget) -> list[ModelSpec]:
    """The first members within the budget, at most two, each at the smallest value of the solved field.

    Raises FieldError when there is none; it names the smallest member's cost. Of a space of more than ENUMERATED
    assignments so many are looked at, drawn by chance.
    """
    found: list[dict[str, float]] = []
    fitting: list[ModelSpec] = []
    for assignment in looked_at(space):
        try:
            model = space.model(assignment, space.solved.fill.low if space.solved else None)
        except (ValidationError, LookupError):
            continue
        found.append(measures_of(model, budget))
        if _is_feasible(space, assignment, budget):
            fitting.append(model)
            if len(fitting) == 2:
                return fitting
    if not found:
        message = f"no member is a valid model; of the first, {space.first_mistake()}"
        raise FieldError(("search", "space"), "space", message, "change its values, or add the field that they need")
    if not fitting:
        raise _none_fits(found, budget)
    return fitting


def looked_at(space: Space) -> Iterator[Assignment]:
    """Every assignment, or ENUMERATED of a space that has more, drawn by chance."""
    if space.size <= ENUMERATED:
        yield from space.assignments()
        return
    chance = random.Random(0)  # noqa: S311
    for _ in range(ENUMERATED):
        yield space.draw(lambda _path, values: values[chance.randrange(len(values))])


def _is_feasible(space: Space, assignment: Assignment, budget: Budget) -> bool:
    try:
        if space.solved is None:
            return within(space.model(assignment), budget)
        solved_range(space, assignment, budget)
    except (Infeasible, ValidationError, LookupError):
        return False
    return True


def _none_fits(found: Sequence[Measures], budget: Budget) -> FieldError:
    """What is said when every member is outside of the budget."""
    least = {name: min(measures[name] for measures in found) for name in budget.limits}
    for name, limit in budget.limits.items():
        if limit.max is not None and least[name] > limit.max:
            return FieldError(
                ("search", "budget", name),
                "budget",
                f"no candidate has {short_count(limit.max)} {name} or fewer; the smallest of the space has "
                f"{least[name]:,.0f}",
                f"write at least {_rounded_up(int(least[name]))}, or widen search.space",
            )
    if len(budget.limits) == 1 or any(limit.min is not None for limit in budget.limits.values()):
        message = f"no candidate lies within {budget.short}"
        return FieldError(("search", "budget"), "budget", message, "widen the bounds, or search.space")
    cheapest = [f"that with the fewest {name} has {_told(min(found, key=lambda one: one[name]))}" for name in least]
    message = f"no candidate keeps all limits; {'; '.join(cheapest)}"
    return FieldError(("search", "budget"), "budget", message, "raise one of them, or widen search.space")


def _told(measures: Measures) -> str:
    return " and ".join(f"{amount:,.0f} {name}" for name, amount in measures.items())


def _rounded_up(number: int) -> str:
    for scale, suffix in ((10**9, "G"), (10**6, "M")):
        if number >= scale:
            hundredths = -(-number * 100 // scale)
            return f"{hundredths / 100:g}{suffix}"
    return str(number)
