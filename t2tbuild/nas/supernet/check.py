"""The checks, before a search, that its members can share a supernet and that each budget has some. Torch-free."""

import sys
from bisect import bisect_left
from collections.abc import Sequence

from t2tbuild.cost.predict import predict_cost
from t2tbuild.errors import FieldError
from t2tbuild.nas.budget import sample_assignments
from t2tbuild.nas.each_value import each_value
from t2tbuild.nas.members import Members
from t2tbuild.nas.space import Space
from t2tbuild.nas.supernet.sliceable import not_sliceable
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.diagnostics.yaml_source import KeyPath
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import Choices
from t2tbuild.spec.units import format_count


def require_supernet(search: Search, space: Space) -> None:
    """Raise FieldError where a search has a supernet that cannot hold its members, or a budget without any."""
    if search.supernet is not None:
        _require_sliceable(search, space)
        _require_members(space, search.budget, search.supernet.budgets)


def _require_sliceable(search: Search, space: Space) -> None:
    """Raise FieldError at the value of the space, or at the base, that no supernet can hold.

    It is at a value where its field is the one that cannot be sliced, or within it or around it; otherwise at the base.
    """
    found = [(one, problem) for one in each_value(space) if (problem := not_sliceable(one.model)) is not None]
    if not found:
        return
    one, problem = max(found, key=lambda pair: _shared(pair[0].field, pair[1].path))  # the first of equal ones
    if _shared(one.field, problem.path):
        place = _place(search, space, one.field, one.index)
        raise FieldError(place, "supernet", problem.reason, "remove this value, or supernet")
    message = f"{space.base.name}: {problem.reason}"
    raise FieldError(("search", "base"), "supernet", message, "name another base, or remove supernet")


def _require_members(space: Space, budget: Budget, budgets: Sequence[int]) -> None:
    """Raise FieldError at the smallest of further budgets where no member is within it.

    Of a large space some assignments are tried. A solved field keeps its fractions of the largest budget.
    """
    if not budgets:
        return
    members, smallest = Members(space, budget), sys.maxsize
    for assignment in sample_assignments(space):
        for member in members.solve(assignment)[:1]:  # at the smallest value of the solved field
            smallest = min(smallest, predict_cost(member.model).macs)
        if smallest <= budgets[0]:
            return
    index = bisect_left(budgets, smallest) - 1
    wanted, hint = format_count(budgets[index]), "raise it, or widen search.space"
    if space.solved is not None:
        hint += f": give {space.solved.path} a range in place of fill, with which every member is near budget.macs"
    message = f"no member of the space has {wanted} MACs or fewer; the smallest has {smallest:,}"
    raise FieldError(("search", "supernet", "budgets", index), "supernet", message, hint)


def _shared(field: str, path: KeyPath) -> int:
    """Return the length of a field's path where it is within another or around it, otherwise 0."""
    parts = field.split(".")
    return len(parts) if all(one == str(other) for one, other in zip(parts, path, strict=False)) else 0


def _place(search: Search, space: Space, field: str, index: int) -> KeyPath:
    """Return the place of a field's value in the search spec."""
    path = next(path for path in search.space if field in space.drawn(path))
    is_listed = isinstance(search.space[path], Choices)
    return ("search", "space", path, *(("choices", index) if is_listed else ()))
