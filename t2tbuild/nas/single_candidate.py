"""The warning that only one candidate lies within the budget. Torch-free."""

from t2tbuild.cost.budget import is_within
from t2tbuild.errors import FieldError
from t2tbuild.nas.space import Space
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.diagnostics.partial_validation import Finding
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.with_changes import with_changes


def warn_single_candidate(fitting: list[ModelSpec], space: Space, budget: Budget) -> tuple[Finding, ...]:
    """Return a warning where a single candidate lies within the budget, so that there is nothing to search."""
    if len(fitting) != 1:
        return ()
    backbone = fitting[0].backbone
    if space.solved and len(space.solved.fill.values) > 1:
        section, _, field = space.solved.path.rpartition(".")
        larger = backbone.model_dump() | {field: space.solved.fill.low + space.solved.fill.step}
        try:
            if section != "backbone" or is_within(with_changes(fitting[0], {"backbone": larger}, "enlarged"), budget):
                return ()
        except FieldError:  # for example a list with one value per block
            return ()
    message = f"only one candidate lies within the budget: depth {backbone.depth}, embed_dim {backbone.embed_dim}"
    return (Finding(("search", "budget"), "one-candidate", message, "raise the budget or widen search.space"),)
