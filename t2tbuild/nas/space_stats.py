"""Statistics of a search space without any training: its members, how many fit the budget, depths by width."""

import math
import random
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from t2tbuild.cost import predict_cost
from t2tbuild.cost.budget import is_within
from t2tbuild.nas.budget import Infeasible, solved_values
from t2tbuild.nas.members import Members
from t2tbuild.nas.space import Assignment, Space
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.space import DEPTH

MAX_ENUMERATED = 2_000
"""A space of up to this many assignments is enumerated."""
NUM_DRAWS = 500
"""Assignments that are drawn from a larger space."""


@dataclass(frozen=True)
class CostedModel:
    """A member of the space and its cost."""

    model: ModelSpec
    macs: int
    params: int


@dataclass(frozen=True)
class SpaceStats:
    """The size of a space.

    `assignments` counts the combinations of the fields whose conditions hold. `members` counts the models within the
    budget, one for each value of the solved field. `sampled` assignments were examined: all of them where `exact`,
    random ones otherwise. `low` and `high` are the ends of the 95% interval of `members`. `smallest` and `largest` are
    the extremes among the examined members. A draw is weighted by its inverse probability (Knuth, Estimating the
    efficiency of backtrack programs, 1975).
    """

    assignments: int
    sampled: int
    feasible_share: float
    members: int
    low: int
    high: int
    smallest: CostedModel
    largest: CostedModel
    ranges: Mapping[int, tuple[int, int]]
    """By width: the smallest and the largest depth found."""
    exact: bool


def measure_space(members: Members, seed: int = 0) -> SpaceStats:
    """Return the size of a space within its budget, exact for a small space, else estimated from uniform draws.

    Raises Infeasible when no examined assignment lies within the budget.
    """
    space = members.space
    exact = space.size <= MAX_ENUMERATED
    rng = random.Random(seed)  # noqa: S311
    sampled = list(space.assignments()) if exact else [space.draw_uniform(rng) for _ in range(NUM_DRAWS)]
    weights = [1.0 if exact else _weight(space, assignment) for assignment in sampled]
    counts: list[float] = []
    ends: list[CostedModel] = []
    ranges: dict[int, tuple[int, int]] = {}
    for assignment in sampled:
        depths, extremes = _enumerate(members, assignment) if exact else _examine(members, assignment)
        counts.append(math.fsum(1 / space.same(assignment, depth) for depth in depths))
        for model in extremes:
            cost, depth, width = predict_cost(model), model.backbone.depth, model.backbone.embed_dim
            ends.append(CostedModel(model, cost.macs, cost.params))
            low, high = ranges.get(width, (depth, depth))
            ranges[width] = (min(low, depth), max(high, depth))
    if not ends:
        raise Infeasible(f"none of {len(sampled):,} assignments lies within the budget")
    found = [weight * count for weight, count in zip(weights, counts, strict=True)]
    num_draws = 1 if exact else len(found)
    mean = math.fsum(found) / num_draws
    half = 0.0 if exact else 1.96 * statistics.stdev(found) / math.sqrt(num_draws)
    fitting = math.fsum(weight for weight, count in zip(weights, counts, strict=True) if count)
    return SpaceStats(
        assignments=round(math.fsum(weights) / num_draws),
        exact=exact,
        sampled=len(sampled),
        feasible_share=fitting / math.fsum(weights),
        members=round(mean),
        low=round(max(0.0, mean - half)),
        high=round(mean + half),
        smallest=min(ends, key=lambda member: member.macs),
        largest=max(ends, key=lambda member: member.macs),
        ranges=dict(sorted(ranges.items())),
    )


def _weight(space: Space, assignment: Assignment) -> float:
    """Return the inverse probability of drawing an assignment."""
    return math.prod(float(len(space.dimensions[path].values)) for path in assignment)


def _enumerate(members: Members, assignment: Assignment) -> tuple[list[int], list[ModelSpec]]:
    """Return the depths of the members of an assignment, and its smallest and largest model. `members` keeps them."""
    models = [member.model for member in members.solve(assignment)]
    return [model.backbone.depth for model in models], [*models[:1], *models[1:][-1:]]


def _examine(members: Members, assignment: Assignment) -> tuple[list[int], list[ModelSpec]]:
    """Return the same as `_enumerate`, and build only the smallest and the largest model."""
    space, budget = members.space, members.budget
    try:
        if space.solved is None:
            model = space.model(assignment)
            return ([model.backbone.depth], [model]) if is_within(model, budget) else ([], [])
        _, values = solved_values(space, assignment, budget)
        extremes = [space.model(assignment, value) for value in dict.fromkeys((values[0], values[-1]))]
    except (Infeasible, ValidationError, LookupError):
        return [], []
    is_depth = space.solved.path == DEPTH
    return [int(value) if is_depth else extremes[0].backbone.depth for value in values], extremes
