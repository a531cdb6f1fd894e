"""Rules across fields for a spec with invalid fields: they are checked on the fields that are valid.

pydantic runs model validators only if every field is valid, so that a user would see the errors in two rounds. Here the
nodes are constructed without the invalid fields. A rule that reads an absent field is skipped.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError

from t2tbuild.spec.base import Check, Node
from t2tbuild.spec.diagnostics.introspect import MAX_ERRORS, closest_match, is_dict, node_for, nodes_in
from t2tbuild.spec.diagnostics.yaml_source import KeyPath


class Finding(NamedTuple):
    """A violation of a rule, or a lint warning, with its path from the root."""

    path: KeyPath
    rule: str
    message: str
    hint: str


def check_rules(root: type[Node], data: Any) -> list[Finding]:
    """Return every violation in `data`, read as a `root`. Invalid fields are skipped."""
    found: list[Finding] = []
    _build_partial(root, data, (), found)
    return found


def run_lints(node: Any, path: KeyPath = ()) -> Iterator[Finding]:
    """Yield the lint warnings of a node and of everything below it."""
    if isinstance(node, Node):
        for name, check in type(node).lints.items():
            yield from (Finding((*path, *one.path), name, one.message, one.hint) for one in check(node))
        for field in type(node).model_fields:
            yield from run_lints(getattr(node, field), (*path, field))
    elif isinstance(node, tuple):
        for index, item in enumerate(node):
            yield from run_lints(item, (*path, index))


def _run_rule(name: str, check: Check, node: Node, path: KeyPath) -> Iterator[Finding]:
    """Run a rule on a node until it reads an absent field."""
    try:
        for one in check(node):
            yield Finding((*path, *one.path), name, one.message, one.hint)
    except AttributeError as error:
        if not isinstance(error.obj, Node) or error.name not in type(error.obj).model_fields:
            raise  # otherwise the rule reads an invalid field, which has an error of its own


_ABSENT = object()


def _build_partial(cls: type[Node], data: Any, path: KeyPath, found: list[Finding]) -> Any:
    """Construct a node from `data` without its invalid fields, and add violations to `found`."""
    if not isinstance(data, dict):
        return _ABSENT
    values: dict[str, Any] = {}
    keys: dict[object, str] = {}  # the key of each field in the data, which may be misspelt
    for field, info in cls.model_fields.items():
        key = field if field in data else _misspelt_key(field, data, cls)
        if key is None:
            continue
        keys[field] = key
        values[field] = _value(cls, field, info.annotation, data[key], (*path, key), found)
    unknown = data.keys() - keys.values() - cls.model_fields.keys()
    node = cls.model_construct(**values)
    _remove_fields(node, [field for field, value in values.items() if value is _ABSENT])
    for name, check in cls.rules.items():  # a field that violates a rule is absent for the next rule
        for one in list(_run_rule(name, check, node, path)):
            inside = one.path[len(path) :]
            if not inside and unknown:  # an unknown key may be the missing field
                continue
            found.append(one._replace(path=(*path, *(keys.get(inside[0], inside[0]), *inside[1:])) if inside else path))
            _remove_fields(node, inside[:1])
    return node


def _remove_fields(node: Node, fields: Iterable[object]) -> None:
    """Remove fields from a node, so that a rule that reads one of them is skipped."""
    for field in fields:
        node.__dict__.pop(field, None)  # type: ignore[call-overload]


def _value(cls: type[Node], field: str, annotation: Any, value: Any, path: KeyPath, found: list[Finding]) -> Any:
    """Return the validated value of a field. Nodes below it are constructed without their invalid fields."""
    below = node_for(nodes_in(annotation), value)
    if below and isinstance(value, dict | list) and _is_invalid_itself(_adapter(cls, field), value):
        return _ABSENT
    if below and isinstance(value, dict):
        if is_dict(annotation):
            nodes = {
                key: _build_partial(_node_of(annotation, item), item, (*path, key), found)
                for key, item in value.items()
            }
            return {key: node for key, node in nodes.items() if node is not _ABSENT}
        return _build_partial(below, value, path, found)
    if below and isinstance(value, list):
        items = [
            _build_partial(_node_of(annotation, item), item, (*path, index), found) for index, item in enumerate(value)
        ]
        return _ABSENT if _ABSENT in items else tuple(items)
    try:
        return _adapter(cls, field).validate_python(value, strict=isinstance(value, str | bool))
    except ValidationError:
        return _ABSENT


def _is_invalid_itself(adapter: TypeAdapter[Any], value: Any) -> bool:
    """Whether a list or mapping is invalid as a whole, for example too short, whatever its items are."""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        kinds = ("rule", "union_tag_not_found")  # a mapping without a kind is resolved by `node_for`
        return any(one["loc"] == () and one["type"] not in kinds for one in error.errors())
    return False


def _node_of(annotation: Any, value: Any) -> type[Node]:
    nodes = nodes_in(annotation)
    return node_for(nodes, value) or nodes[0]


@cache
def _adapter(cls: type[Node], field: str) -> TypeAdapter[Any]:
    info = cls.model_fields[field]
    config = None if nodes_in(info.annotation) else ConfigDict(allow_inf_nan=False)
    return TypeAdapter(Annotated[info.annotation, info], config=config)  # type: ignore[arg-type]


def forget() -> None:
    """Forget the validators of fields, after fields have changed."""
    _adapter.cache_clear()


def _misspelt_key(field: str, data: dict[str, Any], cls: type[Node]) -> str | None:
    """Return the unknown key that most likely means a missing field."""
    fields = list(cls.model_fields)
    unknown = [key for key in data if key not in fields][:MAX_ERRORS]
    return next((key for key in unknown if closest_match(key, fields) == field), None)
