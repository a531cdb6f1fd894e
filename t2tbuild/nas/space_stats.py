"""What a search space holds, without training anything: how many members, how many fit, and the trade of two dials."""

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from t2tbuild.cost import predict_cost
from t2tbuild.nas.budget import Infeasible, solve, solved_values, within
from t2tbuild.nas.space import FILL, Assignment, Space
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import DEPTH

COUNTED = 2_000
"""Assignments up to which every one is looked at."""
DRAWN = 500
"""Assignments of a larger space that are drawn."""


@dataclass(frozen=True)
class Member:
    """A member of the space by its cost."""

    model: ModelSpec
    macs: int
    params: int


@dataclass(frozen=True)
class Size:
    """How large a space is.

    `assignments` counts what the fields whose conditions hold can be together. `members` are the models within the
    budget, for each of the solved field's values one; `low` and `high` are the ends of the 95% interval where
    `looked_at` assignments were drawn, and both `members` where all were looked at; `smallest` and `largest` are of
    what was looked at. A draw stands for as many
    assignments as it was unlikely (Knuth, Estimating the efficiency of backtrack programs, 1975).
    """

    assignments: int
    looked_at: int
    feasible_share: float
    members: int
    low: int
    high: int
    smallest: Member
    largest: Member
    ranges: Mapping[int, tuple[int, int]]
    """By width: the shallowest and the deepest members seen."""
    exact: bool


def measure_space(space: Space, search: Search) -> Size:
    """The size of a space within its budget, exact where it is small, else estimated from uniform draws.

    Raises Infeasible when none of what was looked at lies within the budget.
    """
    exact = space.size <= COUNTED
    chance = random.Random(search.seed)  # noqa: S311
    looked_at = list(space.assignments()) if exact else [_drawn(space, chance) for _ in range(DRAWN)]
    weights = [1.0 if exact else _weight(space, assignment) for assignment in looked_at]
    counts: list[float] = []
    ends: list[Member] = []
    ranges: dict[int, tuple[int, int]] = {}
    for assignment in looked_at:
        inside = _inside(space, assignment, search)
        counts.append(math.fsum(1 / space.same(assignment, depth) for _, depth in inside))
        for fraction, _ in {inside[0], inside[-1]} if inside else ():
            model = solve(space, assignment if fraction is None else assignment | {FILL: fraction}, search.budget)
            cost, depth, width = predict_cost(model), model.backbone.depth, model.backbone.embed_dim
            ends.append(Member(model, cost.macs, cost.params))
            low, high = ranges.get(width, (depth, depth))
            ranges[width] = (min(low, depth), max(high, depth))
    if not ends:
        raise Infeasible(f"none of {len(looked_at):,} assignments lies within the budget")
    found = [weight * count for weight, count in zip(weights, counts, strict=True)]
    shots = 1 if exact else len(found)
    members = math.fsum(found) / shots
    half = 0.0 if exact else 1.96 * statistics.stdev(found) / math.sqrt(shots)
    fitting = math.fsum(weight for weight, count in zip(weights, counts, strict=True) if count)
    return Size(
        assignments=round(math.fsum(weights) / shots),
        exact=exact,
        looked_at=len(looked_at),
        feasible_share=fitting / math.fsum(weights),
        members=round(members),
        low=round(max(0.0, members - half)),
        high=round(members + half),
        smallest=min(ends, key=lambda member: member.macs),
        largest=max(ends, key=lambda member: member.macs),
        ranges=dict(sorted(ranges.items())),
    )


def _drawn(space: Space, chance: random.Random) -> Assignment:
    return space.draw(lambda _path, values: values[chance.randrange(len(values))])


def _weight(space: Space, assignment: Assignment) -> float:
    """By how many assignments a drawn one is one."""
    return math.prod(float(len(space.dimensions[path].values)) for path in assignment)


def _inside(space: Space, assignment: Assignment, search: Search) -> Sequence[tuple[float | None, int]]:
    """The members of an assignment: fractions of the solved field's values, None without one, each with its depth."""
    try:
        if space.solved is None:
            model = space.model(assignment)
            return [(None, model.backbone.depth)] if within(model, search.budget) else []
        most, values = solved_values(space, assignment, search.budget)
        depth = space.model(assignment, values[0]).backbone.depth
    except (Infeasible, ValidationError, LookupError):
        return []
    return [(value / most, value if space.solved.path == DEPTH else depth) for value in values]
