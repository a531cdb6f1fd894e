"""The plan of a search: its base, space and first candidates, checked before anything is written. Torch-free."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import ValidationError

from t2tbuild.accuracy.predictor import predict_accuracy
from t2tbuild.errors import Diagnostic, FieldError, SeveralFieldsError
from t2tbuild.nas.base import scale_to_budget
from t2tbuild.nas.budget import optuna_params, require_feasible, sample_assignments
from t2tbuild.nas.members import MAX_MEMBERS, Members, PredictedMember, rank_by_prediction
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.proxy import classes_of, has_own_data, make_proxy_model, own_data_errors
from t2tbuild.nas.single_candidate import warn_single_candidate
from t2tbuild.nas.solvable import require_solvable
from t2tbuild.nas.space import Space, error_message
from t2tbuild.nas.supernet.check import require_supernet
from t2tbuild.nas.unpredicted import check_unpredicted
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.diagnostics.messages import build_diagnostics
from t2tbuild.spec.diagnostics.partial_validation import Finding
from t2tbuild.spec.diagnostics.yaml_source import KeyPath, YamlSource
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.root import SearchSpec
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import Choices, Fill, Value
from t2tbuild.spec.units import short_count
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.training.dataset_paths import resolve_data


@dataclass(frozen=True)
class Plan:
    """The base, the space around it, the models to try first, and warnings.

    `search` is the spec's search with its target resolved. `base` is the spec's base, scaled into the budget where it
    is over it. `enqueued` has the models to try first with their Optuna parameters.
    """

    search: Search
    base: ModelSpec
    space: Space
    enqueued: tuple[tuple[ModelSpec, dict[str, Any]], ...] = ()
    warnings: tuple[Finding, ...] = ()

    @property
    def target(self) -> str:
        """The resolved target, imagenet or data."""
        return self.search.target

    @cached_property
    def members(self) -> Members:
        """The members of the space within the budget."""
        return Members(self.space, self.search.budget)

    @cached_property
    def predicted(self) -> list[PredictedMember]:
        """The members near published models, the best predicted first."""
        return rank_by_prediction(self.members)


def plan(spec: SearchSpec, *, has_evaluator: bool = False, to_read: bool = False) -> Plan:
    """Load the base, build the space and check both against the budget and the proxy.

    With `to_read`, the plan is that of an existing run, which is only read. Its base may be over the budget, and its
    cost may fall with the solved field, as earlier versions allowed.

    Raises SpecError or FieldError when the base cannot be loaded, scaled into the budget or trained by the proxy, when
    the space names a field that the base does not have, when no budget determines the field with `fill`, and when no
    member of the space lies within the budget.
    """
    search = _with_evaluator(spec.search) if has_evaluator or spec.search.evaluator else spec.search
    named_base = _load_own_model(search.base, ("search", "base"))
    search = search.model_copy(update={"proxy": _resolve_proxy(search.proxy, named_base, to_read=to_read)})
    named_base = _with_classes_of_data(named_base, search, to_read=to_read)
    space = Space(search, named_base)
    _reject_invalid_values(spec, space)
    counted = () if to_read else check_unpredicted(space, search, spec.extensions)
    if not to_read:
        require_solvable(space, search.budget)
        require_supernet(search, space)
    fitting = require_feasible(space, search.budget)
    try:
        base, scaled = scale_to_budget(named_base, search.budget)
    except FieldError:
        if not to_read:
            raise
        base, scaled = named_base, ()
    target = _resolve_target(search, base)
    if not (to_read and has_own_data(search.proxy)):
        make_proxy_model(base, search.proxy, "cpu")
    _reject_inactive_fields(spec, space)
    if search.sampler == "brute_force" and space.size > MAX_MEMBERS:
        message = f"brute force tries every member, but the space has {short_count(space.size)} assignments"
        hint = f"write random, or narrow search.space to at most {MAX_MEMBERS:,} assignments"
        raise FieldError(("search", "sampler"), "sampler", message, hint)
    named = [
        _with_classes_of_data(_load_own_model(name, ("search", "enqueue", index)), search, to_read=to_read)
        for index, name in enumerate(search.enqueue)
    ]
    enqueued = tuple(
        _require_member(model, index, space, search.budget)
        for index, model in enumerate(named)
        if key_of(model) != key_of(base)  # the base is trained anyway
    )
    warned = (*counted, *scaled, *warn_single_candidate(fitting, space, search.budget))
    return Plan(search.model_copy(update={"target": target}), base, space, enqueued, warned)


def _with_evaluator(search: Search) -> Search:
    """Return a search with the user's own evaluator, whose results rank the candidates.

    It ranks by accuracy unless the spec names a metric. Raises FieldError for target imagenet.
    """
    if search.target == "imagenet":
        message = "an evaluator of your own says nothing of ImageNet"
        raise FieldError(("search", "target"), "target", message, "write target: data")
    metric = search.proxy.metric if "metric" in search.proxy.model_fields_set else "accuracy"
    proxy = search.proxy.model_copy(update={"metric": metric})
    return search.model_copy(update={"target": "data", "proxy": proxy})


def _resolve_proxy(proxy: Proxy, base: ModelSpec, *, to_read: bool) -> Proxy:
    """Return the proxy with the splits, the augmentation and the image size of its data written out.

    Raises FieldError where the data are missing; a run `to_read` has them written out, and needs no data.
    """
    data = proxy.data
    if not to_read:
        with own_data_errors():
            data = resolve_data(data)
    height, width = proxy.image_shape(base)
    size = height if height == width else (height, width)
    return proxy.model_copy(update={"data": data.model_copy(update={"image_size": data.image_size or size})})


def _with_classes_of_data(model: ModelSpec, search: Search, *, to_read: bool) -> ModelSpec:
    """Return a model with the classes of the user's own data, so that its cost has the head that will be trained.

    A search for ImageNet keeps the model's. Raises FieldError where the data are missing; `to_read` needs none.
    """
    if search.target == "imagenet" or not has_own_data(search.proxy):
        return model
    try:
        classes = classes_of(search.proxy.data)
    except FieldError:
        if to_read:
            return model
        raise
    return with_changes(model, {"num_classes": classes}, f"trained on the {classes} classes of search.proxy.data")


def _resolve_target(search: Search, base: ModelSpec) -> Literal["imagenet", "data"]:
    """Return the target of a search. Raises FieldError for target imagenet where the base has no prediction."""
    accuracy = predict_accuracy(base)
    if search.target == "imagenet" and accuracy.top1 is None:
        message = f"the base {base.name} has no predicted accuracy: {accuracy.reason}"
        raise FieldError(("search", "target"), "target", message, "write target: data, or a base near published models")
    if search.target != "auto":
        return search.target
    return "imagenet" if not has_own_data(search.proxy) and accuracy.top1 is not None else "data"


def _load_own_model(name: str, path: KeyPath) -> ModelSpec:
    model = load_spec(name).model
    if not isinstance(model, ModelSpec):
        message = f"{model.name} is a timm model, which has no fields to search"
        raise FieldError(path, "base", message, "name a T2T-ViT spec")
    return model


def _require_member(model: ModelSpec, index: int, space: Space, budget: Budget) -> tuple[ModelSpec, dict[str, Any]]:
    """Return an enqueued model with its Optuna parameters. Raises FieldError where it is not in the space."""
    path = ("search", "enqueue", index)
    params = optuna_params(space, model, budget)
    if params is None:
        message = f"{model.name} is not a member of the space within the budget"
        raise FieldError(path, "enqueue", message, "widen search.space, or leave it out")
    return model, params


def _reject_invalid_values(spec: SearchSpec, space: Space) -> None:
    """Raise SeveralFieldsError for values that are invalid for their fields, whatever the other fields are."""
    errors: list[FieldError] = []
    for path, dimension in spec.search.space.items():
        if isinstance(dimension, Fill) or dimension.per is not None or dimension.when is not None:
            continue
        ends = dimension.values if isinstance(dimension, Choices) else (dimension.low, dimension.high)
        for index, value in enumerate(ends):
            wrong = next(
                (found for field in space.fields(path) if (found := _find_value_error(space, field, value))), None
            )
            if wrong:
                item = ("choices", index) if isinstance(dimension, Choices) else (("low", "high")[index],)
                errors.append(FieldError(("search", "space", path, *item), wrong.rule, wrong.message, wrong.hint))
    if errors:
        raise SeveralFieldsError(errors)


def _reject_inactive_fields(spec: SearchSpec, space: Space) -> None:
    """Raise FieldError for a field whose condition never holds, or with which no model is valid."""
    pending = {
        path: "its condition never holds" for path, one in spec.search.space.items() if getattr(one, "when", None)
    }
    for assignment in sample_assignments(space) if pending else ():
        active = [path for path in pending if any(field in assignment for field in space.drawn(path))]
        if not active:
            continue
        try:
            space.model(assignment, space.solved.fill.low if space.solved else None)
        except (ValidationError, LookupError) as error:
            pending |= dict.fromkeys(active, f"no model is valid where its condition holds: {error_message(error)}")
        else:
            for path in active:
                del pending[path]
        if not pending:
            return
    for path, reason in pending.items():
        raise FieldError(("search", "space", path, "when"), "when", f"{path:.60}: {reason}", "correct it, or remove it")


def _find_value_error(space: Space, field: str, value: Value) -> Diagnostic | None:
    """Return the error of a value that is invalid for its field alone, None where it is valid."""
    data = space.data({field: value})
    try:
        ModelSpec.model_validate(data)
    except ValidationError as error:
        if all(one["type"] == "rule" for one in error.errors()):
            return None
        return next(iter(build_diagnostics(error, YamlSource("", data), ModelSpec)))
    return None
