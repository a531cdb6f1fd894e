"""Whether the field with `fill` can be solved from the budget: the limited costs must grow with it. Torch-free."""

import contextlib
import random
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

from pydantic import ValidationError

from t2tbuild.cost.budget import Measures, measure
from t2tbuild.errors import FieldError
from t2tbuild.nas.budget import sample_assignments
from t2tbuild.nas.space import Assignment, Solved, Space
from t2tbuild.spec.budget import LABELS, Budget
from t2tbuild.spec.space import DEPTH

MAX_PROBES = 64
"""At most this many assignments, and about this many values of the solved field, are tried."""
MEASURED = 16
"""About this many of the valid values are measured."""
OTHER_FIELD = f"{{choices: [...]}}, and fill for a field that raises them, such as {DEPTH}"


def require_solvable(space: Space, budget: Budget) -> None:
    """Raise FieldError where the limited costs do not grow with the solved field, so that no budget determines it."""
    if space.solved is None or not budget.limits:
        return
    probed = False
    for assignment in _spread_assignments(space):
        costs = _probe_costs(space, assignment, budget)
        _reject_falling_costs(space.solved, costs, budget)
        if any(cost != costs[0][1] for _, cost in costs):
            return
        probed = probed or len(costs) > 1
    if not probed:
        return
    field = space.solved.path
    labels = " or ".join(LABELS[name] for name in budget.limits)
    message = f"{field:.60} does not change {labels}, so it cannot be solved from the budget"
    raise FieldError(("search", "space", field), "space", message, f"write {OTHER_FIELD}")


def _reject_falling_costs(solved: Solved, costs: Sequence[tuple[float, Measures]], budget: Budget) -> None:
    """Raise FieldError where a larger value of the solved field costs less: there is then no largest one that fits."""
    for (value, cost), (larger, less) in pairwise(costs):
        for name in budget.limits:
            if less[name] < cost[name]:
                field = solved.path.rpartition(".")[2]
                message = (
                    f"{LABELS[name]} fall where {solved.path:.60} grows: {cost[name]:,.0f} at {field} {value}, "
                    f"{less[name]:,.0f} at {larger}; so it cannot be solved from the budget"
                )
                rises = f"high: {value}, or " if cost[name] > costs[0][1][name] else ""
                raise FieldError(("search", "space", solved.path), "space", message, f"write {rises}{OTHER_FIELD}")


def _spread_assignments(space: Space) -> Iterator[Assignment]:
    """Yield the first assignment, which is enough as a rule, then up to MAX_PROBES from all over the space."""
    yield from islice(sample_assignments(space), 1)
    every = list(sample_assignments(space))
    yield from random.Random(0).sample(every, min(MAX_PROBES, len(every)))  # noqa: S311


def _probe_costs(space: Space, assignment: Assignment, budget: Budget) -> list[tuple[float, Measures]]:
    """Return values of the solved field, in rising order, with the limited costs of the members of an assignment.

    A field such as drop_path has no whole number among its own; fractions are then tried.
    """
    assert space.solved is not None
    whole = space.solved.fill.values
    for values in (whole[:: max(1, len(whole) // MAX_PROBES)], (0.25, 0.5)):
        found = []
        for value in values:
            with contextlib.suppress(ValidationError, LookupError):
                found.append((value, space.model(assignment, value)))
        if found:
            break
    measured = [(value, measure(model, budget)) for value, model in found[:: max(1, len(found) // MEASURED)]]
    return [(value, {name: cost[name] for name in budget.limits}) for value, cost in measured]
