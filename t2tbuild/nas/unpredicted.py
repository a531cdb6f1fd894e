"""Searches over nodes of extensions without a symbolic forward, whose costs are counted after building. Torch-free."""

import random
from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from t2tbuild.errors import FieldError
from t2tbuild.nas.space import Space
from t2tbuild.spec.diagnostics.partial_validation import Finding
from t2tbuild.spec.extension.registry import REGISTERED, name_of, unnamed_extensions, without_forward
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search

NOT_PREDICTED = "not-predicted"
"""Rule of the warning that costs are not predicted."""

MAX_DRAWS = 8
"""At most this many assignments are drawn with a value, until one of them is valid."""


def check_unpredicted(space: Space, search: Search, extensions: Sequence[str]) -> tuple[Finding, ...]:
    """Return a warning where nodes of extensions have no symbolic forward, so that costs are not predicted.

    Raises FieldError for what needs predicted costs: a field with `fill`, and activations; and for a node of an
    extension that the spec's `extensions` do not name, so that workers could not load it.
    """
    if not REGISTERED:
        return ()
    _require_named(space.base, extensions, "base")
    names = dict.fromkeys(without_forward(space.base))
    for model in _models_of_each_value(space):
        _require_named(model, extensions, "space")
        names |= dict.fromkeys(without_forward(model))
    if not names:
        return ()
    reason = f"{', '.join(names)} has no symbolic forward, from which costs are predicted"
    if space.solved is not None:
        message = f"{reason}, so no field is solved from the budget"
        raise FieldError(("search", "space", space.solved.path), "space", message, "write choices: [...]")
    if search.budget.activations is not None or "activations" in search.objectives:
        field = "objectives" if search.budget.activations is None else "budget"
        raise FieldError(("search", field), "budget", f"{reason}, and activations are", "leave activations out")
    message = f"{reason}: budgets are checked only after each model is built, by fvcore"
    return (Finding(("search", "budget"), NOT_PREDICTED, message, "give the extension a symbolic forward"),)


def reason_not_counted(warnings: Sequence[Finding]) -> str:
    """Return the reason why the members of a space cannot be counted before they are built, by the plan's warnings."""
    return next((one.message for one in warnings if one.rule == NOT_PREDICTED), "")


def _models_of_each_value(space: Space) -> Iterator[ModelSpec]:
    """Yield a valid model with each value of each field, the other fields drawn at random."""
    rng = random.Random(0)  # noqa: S311
    low = space.solved.fill.low if space.solved else None
    for path, dimension in space.dimensions.items():
        for value in dimension.values:
            for _ in range(MAX_DRAWS):
                drawn = space.draw(lambda one, values: value if one == path else rng.choice(values))  # noqa: B023
                try:
                    model = space.model(drawn, low)
                except (ValidationError, LookupError):
                    continue
                if path in drawn:  # else its condition does not hold
                    yield model
                    break


def _require_named(model: ModelSpec, extensions: Sequence[str], field: str) -> None:
    """Raise FieldError if none of the named extensions defines a node of a model."""
    for _, node, source in unnamed_extensions(model, extensions):
        message = f"{name_of(node)} is defined by {source}, which extensions does not name"
        hint = "name it at the top level: extensions: [...]"
        raise FieldError(("search", field), "extensions-are-named", message, hint)
