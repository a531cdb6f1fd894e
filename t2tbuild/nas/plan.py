"""What a search will do, checked before anything heavy is imported or written. Torch-free."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import ValidationError

from t2tbuild.accuracy.predictor import predict_accuracy
from t2tbuild.errors import Diagnostic, FieldError, SeveralFieldsError
from t2tbuild.nas.base import scale_to_budget
from t2tbuild.nas.budget import looked_at, params_of, require_feasible, within
from t2tbuild.nas.members import MEMBERS, Member, Predicted, by_prediction, members
from t2tbuild.nas.proxy import stand_in
from t2tbuild.nas.record import key_of
from t2tbuild.nas.space import Space, mistake_of
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.diagnostics.messages import explain
from t2tbuild.spec.diagnostics.partial_validation import Found
from t2tbuild.spec.diagnostics.yaml_source import Keys, Source
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import SearchSpec
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import Choices, Fill, Value
from t2tbuild.spec.units import short_count
from t2tbuild.spec.with_changes import with_changes

DEMONSTRATION = ("digits", "fake")
"""Bundled data for demonstrations."""


@dataclass(frozen=True)
class Plan:
    """The base, the space around it, the models that are tried first, and warnings.

    `search` is what was planned, with its target settled. `base` is the spec's own, scaled into the budget where it is
    over it. Of the models that are tried first there are the values that Optuna records.
    """

    search: Search
    base: ModelSpec
    space: Space
    enqueued: tuple[tuple[ModelSpec, dict[str, Any]], ...] = ()
    warnings: tuple[Found, ...] = ()

    @property
    def target(self) -> str:
        """What the winner should be best at: imagenet or data."""
        return self.search.target

    @cached_property
    def members(self) -> dict[str, Member]:
        """Every member within the budget by its key; none of a space that is too large for that."""
        return members(self.space, self.search)

    @cached_property
    def predicted(self) -> list[Predicted]:
        """The members near published models, the best predicted first."""
        return by_prediction(self.members)


def plan(spec: SearchSpec) -> Plan:
    """Load the base and lay out the space.

    Raises SpecError or FieldError when the base cannot be loaded or trained by the proxy, when the space names a field
    that the base has not, and when no member of the space lies within the budget.
    """
    search = spec.search
    named_base = _ours(search.base, ("search", "base"))
    space = Space(search, named_base)
    _refuse_wrong_values(spec, space)
    fitting = require_feasible(space, search.budget)
    base, scaled = scale_to_budget(named_base, search.budget)
    target = _target(search, base)
    stand_in(base, search.proxy, "cpu")
    _refuse_dead_fields(spec, space)
    if search.sampler == "brute_force" and space.size > MEMBERS:
        message = f"brute force tries every member, and the space has {short_count(space.size)} assignments"
        raise FieldError(("search", "sampler"), "sampler", message, f"write random, or leave at most {MEMBERS:,}")
    named = [_ours(name, ("search", "enqueue", index)) for index, name in enumerate(search.enqueue)]
    enqueued = tuple(
        _member(model, index, space, search.budget)
        for index, model in enumerate(named)
        if key_of(model) != key_of(base)  # which is trained anyway
    )
    search = search.model_copy(update={"target": target})
    return Plan(search, base, space, enqueued, (*scaled, *_alone(fitting, space, search.budget)))


def _target(search: Search, base: ModelSpec) -> Literal["imagenet", "data"]:
    """What the winner should be best at. Raises FieldError where ImageNet is asked for and nothing can be predicted."""
    accuracy = predict_accuracy(base)
    if search.target == "imagenet" and accuracy.top1 is None:
        message = f"nothing is predicted for the base {base.name}: {accuracy.reason}"
        raise FieldError(("search", "target"), "target", message, "write target: data, or a base near published models")
    if search.target != "auto":
        return search.target
    return "imagenet" if search.proxy.data.kind in DEMONSTRATION and accuracy.top1 is not None else "data"


def _ours(name: str, path: Keys) -> ModelSpec:
    model = load_spec(name).model
    if not isinstance(model, ModelSpec):
        message = f"{model.name} is a model of timm, which has no fields to search"
        raise FieldError(path, "base", message, "name one of ours")
    return model


def _member(model: ModelSpec, index: int, space: Space, budget: Budget) -> tuple[ModelSpec, dict[str, Any]]:
    """A model that is tried first, which the space must hold: the sampler learns from it."""
    path = ("search", "enqueue", index)
    params = params_of(space, model, budget)
    if params is None:
        message = f"{model.name} is no member of the space within the budget"
        raise FieldError(path, "enqueue", message, "widen search.space, or leave it out")
    return model, params


def _refuse_wrong_values(spec: SearchSpec, space: Space) -> None:
    """Raises SeveralFieldsError for values that their fields can never have, whatever the others are."""
    errors: list[FieldError] = []
    for path, dimension in spec.search.space.items():
        if isinstance(dimension, Fill) or dimension.per is not None or dimension.when is not None:
            continue
        ends = dimension.values if isinstance(dimension, Choices) else (dimension.low, dimension.high)
        for index, value in enumerate(ends):
            wrong = next((found for field in space.fields(path) if (found := _wrong_value(space, field, value))), None)
            if wrong:
                item = ("choices", index) if isinstance(dimension, Choices) else (("low", "high")[index],)
                errors.append(FieldError(("search", "space", path, *item), wrong.rule, wrong.message, wrong.hint))
    if errors:
        raise SeveralFieldsError(errors)


def _refuse_dead_fields(spec: SearchSpec, space: Space) -> None:
    """Raises FieldError for a field with a condition that never holds, or beside which no model is valid."""
    waiting = {
        path: "its condition never holds" for path, one in spec.search.space.items() if getattr(one, "when", None)
    }
    for assignment in looked_at(space) if waiting else ():
        active = [path for path in waiting if any(field in assignment for field in space.drawn(path))]
        if not active:
            continue
        try:
            space.model(assignment, space.solved.fill.low if space.solved else None)
        except (ValidationError, LookupError) as error:
            waiting |= dict.fromkeys(active, f"where its condition holds no model is valid: {mistake_of(error)}")
        else:
            for path in active:
                del waiting[path]
        if not waiting:
            return
    for path, message in waiting.items():
        raise FieldError(
            ("search", "space", path, "when"), "when", f"{path:.60}: {message}", "correct it, or leave it out"
        )


def _wrong_value(space: Space, field: str, value: Value) -> Diagnostic | None:
    """What is wrong with a value of a field whatever the other fields are; None where nothing is."""
    data = space.data({field: value})
    try:
        ModelSpec.model_validate(data)
    except ValidationError as error:
        if all(one["type"] == "rule" for one in error.errors()):
            return None
        return next(iter(explain(error, Source("", data), ModelSpec)))
    return None


def _alone(fitting: list[ModelSpec], space: Space, budget: Budget) -> tuple[Found, ...]:
    """A warning where the budget leaves nothing to search: a single candidate lies within it."""
    if len(fitting) != 1:
        return ()
    backbone = fitting[0].backbone
    if space.solved and len(space.solved.fill.values) > 1:
        room, _, field = space.solved.path.rpartition(".")
        larger = backbone.model_dump() | {field: space.solved.fill.low + space.solved.fill.step}
        try:
            if room != "backbone" or within(with_changes(fitting[0], {"backbone": larger}, "enlarged"), budget):
                return ()
        except FieldError:  # e.g. a list with one value a block
            return ()
    message = f"one candidate alone lies within the budget: depth {backbone.depth}, embed_dim {backbone.embed_dim}"
    return (Found(("search", "budget"), "one-candidate", message, "raise the budget or widen search.space"),)
