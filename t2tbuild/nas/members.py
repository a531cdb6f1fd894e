"""The members of a space within its budget, and their order by predicted accuracy. Torch-free."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from t2tbuild.accuracy.features import Shape, shape_of
from t2tbuild.accuracy.predictor import predicted_error_bound, shipped_predictor
from t2tbuild.cost.budget import is_within
from t2tbuild.nas.budget import Infeasible, solved_values
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.space import FILL, Assignment, Space, to_category
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import Value

MAX_MEMBERS = 20_000
"""A space of up to this many assignments is enumerated."""


@dataclass(frozen=True)
class Member:
    """A model of the space, and its parameters in Optuna."""

    model: ModelSpec
    params: Mapping[str, Any]


@dataclass(frozen=True)
class PredictedMember:
    """A member with its key and shape."""

    key: str
    member: Member
    shape: Shape


def enumerate_members(space: Space, search: Search) -> dict[str, Member]:
    """Return every member within the budget by its key. A space of over MAX_MEMBERS assignments gives none."""
    if space.size > MAX_MEMBERS:
        return {}
    found: dict[str, Member] = {}
    for assignment in space.assignments():
        params = {path: to_category(value) for path, value in assignment.items()}
        for model, extra in _models(space, assignment, search):
            found.setdefault(key_of(model), Member(model, params | extra))
    return found


def _models(space: Space, assignment: Assignment, search: Search) -> Iterator[tuple[ModelSpec, dict[str, Value]]]:
    """Yield the models of an assignment within the budget, each with its fraction of the solved field."""
    try:
        if space.solved is None:
            model = space.model(assignment)
            if is_within(model, search.budget):
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


def rank_by_prediction(found: Mapping[str, Member]) -> list[PredictedMember]:
    """Return the members near published models, the best predicted first."""
    predictor = shipped_predictor()
    shaped = (PredictedMember(key, member, shape_of(member.model)) for key, member in found.items())
    near = [one for one in shaped if not predictor.reason_not_predicted(one.shape)]
    return sorted(near, key=lambda one: predicted_error_bound(one.shape))
