"""Candidates within the budget: one field of each is solved from the budget, so none is over it."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from t2tbuild.cost.bisection import largest
from t2tbuild.cost.budget import Measures, is_over, is_under, is_within, measure
from t2tbuild.errors import FieldError
from t2tbuild.nas.field_paths import get_value
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.space import FILL, Assignment, Space, error_message, to_category
from t2tbuild.spec.budget import LABELS, Budget
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.space import DEPTH, Fill, Value
from t2tbuild.spec.units import format_count, round_up, short_count

MAX_ENUMERATED = 2_000
"""The largest number of assignments that `sample_assignments` yields."""


class Infeasible(Exception):  # noqa: N818  # not an error: the sampler draws again
    """An assignment gives no model within the budget. The message is the reason."""


def solve(space: Space, assignment: Mapping[str, Value], budget: Budget, name: str = "candidate") -> ModelSpec:
    """Return the candidate of an assignment.

    The solved field gets its fraction of the largest value within the budget. Raises Infeasible when the fields are
    invalid together or no value lies within the budget.
    """
    try:
        if space.solved is None:
            model = space.model(assignment, name=name)
            if not is_within(model, budget):
                raise Infeasible("over budget" if is_over(model, budget) else "below the budget's minimum")
            return model
        least, most = solved_range(space, assignment, budget)
        value = _value_at_fraction(space.solved.fill, float(assignment[FILL]), least, most)
        return space.model(assignment, value, name)
    except (ValidationError, LookupError) as error:
        raise Infeasible(error_message(error)) from None


def solved_values(space: Space, assignment: Mapping[str, Value], budget: Budget) -> tuple[int, range]:
    """Return the largest value of the solved field within the budget, and all values that its fractions give.

    Raises the errors of `solved_range`.
    """
    assert space.solved is not None
    least, most = solved_range(space, assignment, budget)
    first, last = (_value_at_fraction(space.solved.fill, fraction, least, most) for fraction in space.solved.fill.fill)
    return most, range(first, last + 1, space.solved.fill.step)


def _value_at_fraction(fill: Fill, fraction: float, least: int, most: int) -> int:
    """Return the value nearest to a fraction of `most`, within `least` and `most`."""
    value = fill.low + int((fraction * most - fill.low) / fill.step + 0.5) * fill.step
    return min(max(value, least), most)


def solved_range(space: Space, assignment: Mapping[str, Value], budget: Budget) -> tuple[int, int]:
    """Return the smallest and the largest value of the solved field within the budget.

    Raises Infeasible when there is none, ValidationError or LookupError when the fields are invalid together.
    """
    assert space.solved is not None
    values = space.solved.fill.values
    most = largest(values, lambda value: not is_over(space.model(assignment, value), budget))
    if most is None:
        raise Infeasible(f"over budget at every {space.solved.path.rpartition('.')[2]}")
    least = values[0]
    if any(bounds.min is not None for bounds in budget.limits.values()):
        below = largest(values, lambda value: is_under(space.model(assignment, value), budget))
        rest = values if below is None else values[values.index(below) + 1 :]
        if not rest or rest[0] > most:
            raise Infeasible("no value lies between the budget's minimum and its maximum")
        least = rest[0]
    return least, most


def optuna_params(space: Space, model: ModelSpec, budget: Budget) -> dict[str, Any] | None:
    """Return the Optuna parameters of a model, None where the model is not a member of the space."""
    assignment = space.locate(model)
    if assignment is None:
        return None
    try:
        if space.solved is not None:
            _, most = solved_range(space, assignment, budget)
            assignment[FILL] = min(1.0, get_value(model, space.solved.path) / most)
            low, high = space.solved.fill.fill
            if not low <= assignment[FILL] <= high:
                return None
        same = key_of(solve(space, assignment, budget)) == key_of(model)
    except (Infeasible, ValidationError, LookupError):
        return None
    return {path: to_category(value) for path, value in assignment.items()} if same else None


def require_feasible(space: Space, budget: Budget) -> list[ModelSpec]:
    """Return the first two members within the budget, or the only one, at the smallest value of the solved field.

    Raises FieldError when there is none. The message names the cost of the smallest member. A space of more than
    MAX_ENUMERATED assignments is sampled.
    """
    found: list[dict[str, float]] = []
    fitting: list[ModelSpec] = []
    for assignment in sample_assignments(space):
        try:
            model = space.model(assignment, space.solved.fill.low if space.solved else None)
        except (ValidationError, LookupError):
            continue
        found.append(measure(model, budget))
        if _is_feasible(space, assignment, budget):
            fitting.append(model)
            if len(fitting) == 2:
                return fitting
    if not found:
        message = f"no member is a valid model; the error of the first: {space.first_error()}"
        raise FieldError(("search", "space"), "space", message, "change its values, or add the field that they need")
    if not fitting:
        raise _budget_error(found, budget, solved=space.solved is not None)
    return fitting


def sample_assignments(space: Space) -> Iterator[Assignment]:
    """Yield every assignment, or MAX_ENUMERATED random ones of a space that has more."""
    if space.size <= MAX_ENUMERATED:
        yield from space.assignments()
        return
    rng = random.Random(0)  # noqa: S311
    for _ in range(MAX_ENUMERATED):
        yield space.draw_uniform(rng)


def _is_feasible(space: Space, assignment: Assignment, budget: Budget) -> bool:
    try:
        if space.solved is None:
            return is_within(space.model(assignment), budget)
        solved_range(space, assignment, budget)
    except (Infeasible, ValidationError, LookupError):
        return False
    return True


def _budget_error(found: Sequence[Measures], budget: Budget, *, solved: bool) -> FieldError:
    """Return the error for a space without a member within the budget.

    Where no field of the space changes the cost, the message says so. `solved` is whether a field is solved from the
    budget, which changes it.
    """
    least = {name: min(measures[name] for measures in found) for name in budget.limits}
    for name, limit in budget.limits.items():
        if limit.max is not None and least[name] > limit.max:
            message = f"no candidate has {short_count(limit.max)} {LABELS[name]} or fewer; "
            at_least = f"write at least {round_up(int(least[name]))}, or "
            if solved or any(measures[name] != least[name] for measures in found):
                message += f"the smallest of the space has {least[name]:,.0f}"
                hint = f"{at_least}widen search.space"
            else:
                message += f"every candidate has {least[name]:,.0f}, as no field of search.space changes them"
                hint = f"{at_least}add a field that does, such as {DEPTH}: {{fill: [0.7, 1.0]}}"
            return FieldError(("search", "budget", name), "budget", message, hint)
    ((name, limit), *others) = budget.limits.items()
    if limit.max is None and limit.min is not None and not others:
        message = f"no candidate has {short_count(limit.min)} {LABELS[name]} or more"
        hint = f"write a lower min, {name}: {format_count(limit.min)} for an upper bound, or widen search.space"
        return FieldError(("search", "budget", name), "budget", message, hint)
    if not others or any(limit.min is not None for limit in budget.limits.values()):
        message = f"no candidate lies within {budget.summary}"
        return FieldError(("search", "budget"), "budget", message, "widen the bounds, or search.space")
    cheapest = [
        f"the one with the fewest {LABELS[name]} has {_format_measures(min(found, key=lambda one: one[name]))}"
        for name in least
    ]
    message = f"no candidate is within all limits; {'; '.join(cheapest)}"
    return FieldError(("search", "budget"), "budget", message, "raise one of them, or widen search.space")


def _format_measures(measures: Measures) -> str:
    return " and ".join(f"{amount:,.0f} {LABELS[name]}" for name, amount in measures.items())
