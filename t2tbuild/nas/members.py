"""The members of a space within its budget, each once, and in the order of their predicted accuracy. Torch-free."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from t2tbuild.accuracy.features import Shape, shape_of
from t2tbuild.accuracy.predictor import DEFAULT_RECIPE, Estimate, shipped_predictor
from t2tbuild.nas.budget import Infeasible, solved_values, within
from t2tbuild.nas.record import key_of
from t2tbuild.nas.space import FILL, Assignment, Space, category
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import Value

MEMBERS = 20_000
"""Assignments up to which a space is small enough to try every member."""


@dataclass(frozen=True)
class Member:
    """A model of the space, and the value that Optuna records for each of its fields."""

    model: ModelSpec
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Predicted:
    """A member with its key, and what is predicted of its log error."""

    key: str
    member: Member
    shape: Shape
    estimate: Estimate


def members(space: Space, search: Search) -> dict[str, Member]:
    """Every member within the budget by its key; none of a space that is too large for that."""
    if space.size > MEMBERS:
        return {}
    found: dict[str, Member] = {}
    for assignment in space.assignments():
        params = {path: category(value) for path, value in assignment.items()}
        for model, extra in _models(space, assignment, search):
            found.setdefault(key_of(model), Member(model, params | extra))
    return found


def _models(space: Space, assignment: Assignment, search: Search) -> Iterator[tuple[ModelSpec, dict[str, Value]]]:
    """The models of an assignment within the budget, with the fraction of the solved field that makes each."""
    try:
        if space.solved is None:
            model = space.model(assignment)
            if within(model, search.budget):
                yield model, {}
            return
        most, values = solved_values(space, assignment, search.budget)
    except (Infeasible, ValidationError, LookupError):
        return
    low, high = space.solved.fill.fill
    for value in values:
        try:
            yield space.model(assignment, value), {FILL: min(max(value / most, low), high)}
        except (ValidationError, LookupError):
            continue


def by_prediction(found: Mapping[str, Member]) -> list[Predicted]:
    """The members near published models, the best predicted first."""
    predictor = shipped_predictor()
    ranked = []
    for key, member in found.items():
        shape = shape_of(member.model)
        if not predictor.outside(shape):
            ranked.append(Predicted(key, member, shape, predictor.estimate(shape, DEFAULT_RECIPE)))
    return sorted(ranked, key=lambda one: one.estimate.upper)
