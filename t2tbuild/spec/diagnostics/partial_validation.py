"""The rules of a spec of which some fields are wrong: they are asked of the fields that are right.

pydantic asks a rule across fields only once every field is right, and a person would then be told in two rounds. Here
the nodes are made again without what is wrong; a rule that reads an absent field says nothing.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError

from t2tbuild.spec.base import Check, Node
from t2tbuild.spec.diagnostics.introspect import MOST, is_dict, nearest, node_for, nodes_in
from t2tbuild.spec.diagnostics.yaml_source import Keys


class Found(NamedTuple):
    """A rule that does not hold, seen from the root."""

    path: Keys
    rule: str
    message: str
    hint: str


def broken_rules(root: type[Node], data: Any) -> list[Found]:
    """Every rule that does not hold in `data` read as a `root`, the fields that are wrong left out."""
    found: list[Found] = []
    _partial(root, data, (), found)
    return found


def advised(node: Any, path: Keys = ()) -> Iterator[Found]:
    """What is legal in a spec but likely a slip, of a node and all below it."""
    if isinstance(node, Node):
        for name, check in type(node).advices.items():
            yield from (Found((*path, *broken.path), name, broken.message, broken.hint) for broken in check(node))
        for field in type(node).model_fields:
            yield from advised(getattr(node, field), (*path, field))
    elif isinstance(node, tuple):
        for index, item in enumerate(node):
            yield from advised(item, (*path, index))


def _ask(name: str, check: Check, node: Node, path: Keys) -> Iterator[Found]:
    """What a rule says of a node, as far as the fields that it reads are there."""
    try:
        for broken in check(node):
            yield Found((*path, *broken.path), name, broken.message, broken.hint)
    except AttributeError as error:
        if not isinstance(error.obj, Node) or error.name not in type(error.obj).model_fields:
            raise  # else a field that it reads is wrong, and told as such


_ABSENT = object()


def _partial(cls: type[Node], data: Any, path: Keys, found: list[Found]) -> Any:
    """The node that `data` makes with what is wrong left out; rules that do not hold are added to `found`."""
    if not isinstance(data, dict):
        return _ABSENT
    values: dict[str, Any] = {}
    keys: dict[object, str] = {}  # of each field the key under which it stands, which may be misspelt
    for field, info in cls.model_fields.items():
        key = field if field in data else _meant(field, data, cls)
        if key is None:
            continue
        keys[field] = key
        values[field] = _value(cls, field, info.annotation, data[key], (*path, key), found)
    strange = data.keys() - keys.values() - cls.model_fields.keys()
    node = cls.model_construct(**values)
    _take_out(node, [field for field, value in values.items() if value is _ABSENT])
    for name, check in cls.rules.items():  # a field that one rule finds wrong is absent for the next
        for one in list(_ask(name, check, node, path)):
            inside = one.path[len(path) :]
            if not inside and strange:  # what is lacking may be what a strange key was to be
                continue
            found.append(one._replace(path=(*path, *(keys.get(inside[0], inside[0]), *inside[1:])) if inside else path))
            _take_out(node, inside[:1])
    return node


def _take_out(node: Node, fields: Iterable[object]) -> None:
    """Make fields absent, so that a rule that reads one of them says nothing."""
    for field in fields:
        node.__dict__.pop(field, None)  # type: ignore[call-overload]


def _value(cls: type[Node], field: str, annotation: Any, value: Any, path: Keys, found: list[Found]) -> Any:
    """A field's value as its node has it: nodes below it are made with what is wrong left out."""
    below = node_for(nodes_in(annotation), value)
    if below and isinstance(value, dict | list) and _is_wrong_itself(_adapter(cls, field), value):
        return _ABSENT
    if below and isinstance(value, dict):
        if is_dict(annotation):
            nodes = {key: _partial(_of(annotation, item), item, (*path, key), found) for key, item in value.items()}
            return {key: node for key, node in nodes.items() if node is not _ABSENT}
        return _partial(below, value, path, found)
    if below and isinstance(value, list):
        items = [_partial(_of(annotation, item), item, (*path, index), found) for index, item in enumerate(value)]
        return _ABSENT if _ABSENT in items else tuple(items)
    try:
        return _adapter(cls, field).validate_python(value, strict=isinstance(value, str | bool))
    except ValidationError:
        return _ABSENT


def _is_wrong_itself(adapter: TypeAdapter[Any], value: Any) -> bool:
    """Whether a list or mapping is wrong as such, e.g. too short or not what is wanted, whatever stands in it."""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        kinds = ("rule", "union_tag_not_found")  # without its kind a mapping is another node's, see `node_for`
        return any(one["loc"] == () and one["type"] not in kinds for one in error.errors())
    return False


def _of(annotation: Any, value: Any) -> type[Node]:
    nodes = nodes_in(annotation)
    return node_for(nodes, value) or nodes[0]


@cache
def _adapter(cls: type[Node], field: str) -> TypeAdapter[Any]:
    info = cls.model_fields[field]
    config = None if nodes_in(info.annotation) else ConfigDict(allow_inf_nan=False)
    return TypeAdapter(Annotated[info.annotation, info], config=config)  # type: ignore[arg-type]


def _meant(field: str, data: dict[str, Any], cls: type[Node]) -> str | None:
    """The unknown key that most likely means the field, which is missing."""
    fields = list(cls.model_fields)
    strange = [key for key in data if key not in fields][:MOST]
    return next((key for key in strange if nearest(key, fields) == field), None)
