"""The members of a space within its budget, and their order by predicted accuracy. Torch-free."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from t2tbuild.accuracy.features import Shape, shape_of
from t2tbuild.accuracy.predictor import predicted_error_bound, shipped_predictor
from t2tbuild.cost.budget import is_within
from t2tbuild.nas.budget import Infeasible, solved_values
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.space import FILL, Assignment, Space, to_category
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.space import Value

MAX_MEMBERS = 20_000
"""A space of up to this many assignments is enumerated."""


@dataclass(frozen=True)
class Member:
    """A model of the space within the budget, its key, and its parameters in Optuna."""

    model: ModelSpec
    key: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class PredictedMember:
    """A member with its shape."""

    member: Member
    shape: Shape

    @property
    def key(self) -> str:
        return self.member.key


class Members:
    """The members of a space within its budget. An assignment is solved when it is needed, and once."""

    def __init__(self, space: Space, budget: Budget) -> None:
        self.space, self.budget = space, budget
        self._solved: dict[tuple[Any, ...], tuple[Member, ...]] = {}

    @cached_property
    def assignments(self) -> list[Assignment]:
        """Every assignment; empty where there are more than MAX_MEMBERS."""
        return list(self.space.assignments()) if self.space.size <= MAX_MEMBERS else []

    def __iter__(self) -> Iterator[Member]:
        """Yield every member of a space that is enumerated, each model once."""
        seen: set[str] = set()
        for assignment in self.assignments:
            for member in self.solve(assignment):
                if member.key not in seen:
                    seen.add(member.key)
                    yield member

    def solve(self, assignment: Assignment) -> tuple[Member, ...]:
        """Return the members of an assignment: one, or one for each value of the solved field within the budget."""
        params = {path: to_category(value) for path, value in assignment.items() if path != FILL}
        known = tuple(params.items())
        if known not in self._solved:
            self._solved[known] = tuple(
                Member(model, key_of(model), params | extra) for model, extra in self._models(assignment)
            )
        return self._solved[known]

    def _models(self, assignment: Assignment) -> Iterator[tuple[ModelSpec, dict[str, Value]]]:
        """Yield the models of an assignment within the budget, each with its fraction of the solved field."""
        space = self.space
        try:
            if space.solved is None:
                model = space.model(assignment)
                if is_within(model, self.budget):
                    yield model, {}
                return
            most, values = solved_values(space, assignment, self.budget)
        except (Infeasible, ValidationError, LookupError):
            return
        low, high = space.solved.fill.fill
        for value in values:
            try:
                yield space.model(assignment, value), {FILL: min(max(value / most, low), high)}
            except (ValidationError, LookupError):
                continue

    def to_assignment(self, params: Mapping[str, Any]) -> Assignment:
        """Return the assignment of a member's parameters in Optuna, without the solved field's fraction.

        Raises LookupError where the space has no such value.
        """
        found: Assignment = {}
        for path, given in params.items():
            if path != FILL:
                values = [one for one in self.space.dimensions[path].values if to_category(one) == given]
                found[path] = values[0]
        return found

    def shuffled(self, rng: random.Random) -> Iterator[Assignment]:
        """Yield the assignments of an enumerated space in random order."""
        listed = self.assignments
        yield from (listed[index] for index in rng.sample(range(len(listed)), len(listed)))

    def nearest(self, assignment: Assignment) -> Iterator[Assignment]:
        """Yield the assignments of an enumerated space, the nearest to a given one first.

        The distance of two numbers is that of their places among the values of the field, as a fraction; two other
        values are at distance 1.
        """
        if not self.assignments:
            return
        codes, scales = self._codes
        given = self._code(assignment)
        is_number = (scales > 0) & (codes >= 0) & (given >= 0)
        apart = np.where(is_number, np.abs(codes - given) * scales, codes != given)
        yield from (self.assignments[index] for index in np.argsort(apart.sum(axis=1), kind="stable"))

    @cached_property
    def _codes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The places of the values of every assignment, and the distance of one place in each field of numbers."""
        scales = []
        for dimension in self.space.dimensions.values():
            is_number = all(isinstance(value, int | float) for value in dimension.values)
            scales.append(1 / max(1, len(dimension.values) - 1) if is_number else 0.0)
        return np.array([self._code(one) for one in self.assignments]), np.array(scales)

    def _code(self, assignment: Assignment) -> NDArray[np.float64]:
        """Return the place of each field's value among the values of the field, -1 where the field is not set."""
        found = []
        for path, dimension in self.space.dimensions.items():
            found.append(list(dimension.values).index(assignment[path]) if path in assignment else -1)
        return np.array(found, dtype=float)


def rank_by_prediction(members: Members) -> list[PredictedMember]:
    """Return the members near published models, the best predicted first."""
    predictor = shipped_predictor()
    shaped = (PredictedMember(member, shape_of(member.model)) for member in members)
    near = [one for one in shaped if not predictor.reason_not_predicted(one.shape)]
    return sorted(near, key=lambda one: predicted_error_bound(one.shape))
