"""Searches over nodes of extensions without a symbolic forward, whose costs are counted after building. Torch-free."""

import contextlib
from itertools import islice

from pydantic import ValidationError

from t2tbuild.errors import FieldError
from t2tbuild.nas.budget import sample_assignments
from t2tbuild.nas.space import Space
from t2tbuild.spec.diagnostics.partial_validation import Finding
from t2tbuild.spec.extension.registry import without_forward
from t2tbuild.spec.search import Search

MAX_EXAMINED = 64
"""At most this many assignments are examined."""


def check_unpredicted(space: Space, search: Search) -> tuple[Finding, ...]:
    """Return a warning where nodes of extensions have no symbolic forward, so that costs are not predicted.

    Raises FieldError for what needs predicted costs: a field with `fill`, and activations.
    """
    names: dict[str, None] = {}
    for assignment in (None, *islice(sample_assignments(space), MAX_EXAMINED)):
        with contextlib.suppress(ValidationError, LookupError):
            low = space.solved.fill.low if space.solved else None
            names |= dict.fromkeys(without_forward(space.base if assignment is None else space.model(assignment, low)))
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
    return (Finding(("search", "budget"), "not-predicted", message, "give the extension a symbolic forward"),)
