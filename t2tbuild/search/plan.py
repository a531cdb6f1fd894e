"""What a search will do, checked before anything heavy is imported or written. Torch-free."""

from dataclasses import dataclass

from t2tbuild.errors import InputError
from t2tbuild.search.budget import require_feasible
from t2tbuild.search.proxy import stand_in
from t2tbuild.search.space import Space
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.tree import SearchSpec


@dataclass(frozen=True)
class Plan:
    """The base and the space around it."""

    base: ModelSpec
    space: Space


def plan(spec: SearchSpec) -> Plan:
    """Load the base and lay out the space.

    Raises InputError when the base cannot be loaded or trained by the proxy, when the space names a field that the base
    has not, and when no member of the space lies within the budget.
    """
    base = load_spec(spec.search.base).model
    if not isinstance(base, ModelSpec):
        raise InputError(
            f"search.base: {base.name} is a model of timm, which has no fields to search; name one of ours"
        )
    space = Space(spec.search, base)
    require_feasible(space, spec.search.budget)
    stand_in(base, spec.search.proxy, "cpu")
    return Plan(base, space)
