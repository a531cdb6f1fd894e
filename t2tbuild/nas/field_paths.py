"""Dotted paths of fields in plain data, such as tokenizer.stages.0.token_dim."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.space import Value


def get_value(model: ModelSpec, path: str) -> Any:
    """Return the value of a model's field. Raises LookupError where it does not exist."""
    return get_field(to_plain(model), path)


def to_plain(node: Any) -> Any:
    """Return a spec node as plain data, null fields included."""
    if isinstance(node, BaseModel):
        return {field: to_plain(getattr(node, field)) for field in type(node).model_fields}
    return [to_plain(item) for item in node] if isinstance(node, tuple) else node


def kind_of(value: Any) -> Any:
    """Return the kind of a mapping, which may be written instead of the mapping; any other value is unchanged."""
    return value.get("kind", value) if isinstance(value, dict) else value


def copy_data(data: Any) -> Any:
    """Return a deep copy of plain data."""
    if isinstance(data, dict):
        return {key: copy_data(value) for key, value in data.items()}
    return [copy_data(item) for item in data] if isinstance(data, list) else data


def leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and value of every field, also within lists of nodes."""
    if path:
        yield path, data
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            if isinstance(value, dict):
                yield from leaves(value, f"{path}.{index}")


def matches(field: str, pattern: str) -> bool:
    """Whether a field matches a path in which `*` stands for any one name."""
    parts, wanted = field.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(want in ("*", part) for part, want in zip(parts, wanted, strict=True))


def get_field(data: Any, path: str) -> Any:
    """Return the value at a dotted path. Raises LookupError where it does not exist."""
    for part in path.split("."):
        if not isinstance(data, dict | list | tuple):
            raise LookupError(f"the candidate has no field {path}")
        try:
            data = data[part] if isinstance(data, dict) else data[int(part)]
        except (KeyError, IndexError):
            raise LookupError(f"the candidate has no field {path}") from None
    return data


def set_field(data: Any, path: str, value: Value) -> None:
    """Set the value at a dotted path. Raises LookupError where the path does not exist."""
    above, _, last = path.rpartition(".")
    parent = get_field(data, above) if above else data
    if not isinstance(parent, dict):
        raise LookupError(f"the candidate has no field {path}")
    parent[last] = value
