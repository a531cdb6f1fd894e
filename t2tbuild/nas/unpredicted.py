"""Searches over nodes of extensions without a symbolic forward, whose costs are counted after building. Torch-free."""

from collections.abc import Sequence

from t2tbuild.errors import FieldError
from t2tbuild.nas.each_value import each_value
from t2tbuild.nas.space import Space
from t2tbuild.spec.diagnostics.partial_validation import Finding
from t2tbuild.spec.extension.registry import REGISTERED, name_of, unnamed_extensions, without_forward
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search

NOT_PREDICTED = "not-predicted"
"""Rule of the warning that costs are not predicted."""


def check_unpredicted(space: Space, search: Search, extensions: Sequence[str]) -> tuple[Finding, ...]:
    """Return a warning where nodes of extensions have no symbolic forward, so that costs are not predicted.

    Raises FieldError for what needs predicted costs: a field with `fill`, and activations; and for a node of an
    extension that the spec's `extensions` do not name, so that workers could not load it.
    """
    if not REGISTERED:
        return ()
    _require_named(space.base, extensions, "base")
    names = dict.fromkeys(without_forward(space.base))
    for one in each_value(space):
        _require_named(one.model, extensions, "space")
        names |= dict.fromkeys(without_forward(one.model))
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


def _require_named(model: ModelSpec, extensions: Sequence[str], field: str) -> None:
    """Raise FieldError if none of the named extensions defines a node of a model."""
    for _, node, source in unnamed_extensions(model, extensions):
        message = f"{name_of(node)} is defined by {source}, which extensions does not name"
        hint = "name it at the top level: extensions: [...]"
        raise FieldError(("search", field), "extensions-are-named", message, hint)
