"""The check, before a search, that all members of its space can share a supernet. Torch-free."""

from t2tbuild.errors import FieldError
from t2tbuild.nas.each_value import each_value
from t2tbuild.nas.space import Space
from t2tbuild.nas.supernet.sliceable import not_sliceable
from t2tbuild.spec.diagnostics.yaml_source import KeyPath
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import Choices


def require_sliceable(search: Search, space: Space) -> None:
    """Raise FieldError at the value of the space, or at the base, that the supernet of a search cannot hold.

    It is at a value where its field is the one that cannot be sliced, or within it or around it; otherwise at the base.
    """
    if search.supernet is None:
        return
    found = [(one, problem) for one in each_value(space) if (problem := not_sliceable(one.model)) is not None]
    if not found:
        return
    one, problem = max(found, key=lambda pair: _shared(pair[0].field, pair[1].path))  # the first of equal ones
    if _shared(one.field, problem.path):
        place = _place(search, space, one.field, one.index)
        raise FieldError(place, "supernet", problem.reason, "remove this value, or supernet")
    message = f"{space.base.name}: {problem.reason}"
    raise FieldError(("search", "base"), "supernet", message, "name another base, or remove supernet")


def _shared(field: str, path: KeyPath) -> int:
    """Return the length of a field's path where it is within another or around it, otherwise 0."""
    parts = field.split(".")
    return len(parts) if all(one == str(other) for one, other in zip(parts, path, strict=False)) else 0


def _place(search: Search, space: Space, field: str, index: int) -> KeyPath:
    """Return the place of a field's value in the search spec."""
    path = next(path for path in search.space if field in space.drawn(path))
    is_listed = isinstance(search.space[path], Choices)
    return ("search", "space", path, *(("choices", index) if is_listed else ()))
