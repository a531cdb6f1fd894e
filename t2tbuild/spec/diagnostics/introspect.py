"""Introspection of the spec tree: the nodes and fields at a path, and close matches of a word."""

import difflib
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics.yaml_source import KeyPath

MAX_COMPARED = 64
"""Longest word, in characters, that is compared with others."""
MAX_ERRORS = 100
"""Largest number of mistakes that are reported of a file."""


def value_at(path: KeyPath, data: Any) -> Any:
    """Return the value at a path of plain data."""
    for part in path:
        data = data[part]
    return data


def closest_match(word: object, known: list[str], cutoff: float = 0.6) -> str:
    """Return the known word that is closest to a mistyped one, or an empty string if none is close."""
    if not isinstance(word, str) or len(word) > MAX_COMPARED:
        return ""
    folded = word.strip().lower().replace("-", "_")
    near = [name for name in known if name.lower() == folded] or difflib.get_close_matches(
        folded, known, n=1, cutoff=cutoff
    )
    return near[0] if near else ""


def kinds_of(node: type[Node]) -> list[str]:
    """Return the values of `kind` that select a node in a tagged union. A node may have several."""
    return list(get_args(node.model_fields["kind"].annotation)) if "kind" in node.model_fields else []


def nodes_in(annotation: Any) -> list[type[Node]]:
    """Return the node classes in the annotation of a field."""
    if isinstance(annotation, type) and issubclass(annotation, Node):
        return [annotation]
    return [node for inner in get_args(annotation) for node in nodes_in(inner)]


def node_for(nodes: list[type[Node]], value: Any) -> type[Node] | None:
    """Return the node class that a mapping most likely means: by its kind, else by its keys."""
    if not nodes:
        return None
    if not isinstance(value, dict):
        return nodes[0]
    kinds = {kind: node for node in nodes for kind in kinds_of(node)}
    if "kind" in value and kinds:
        kind = value["kind"]
        return kinds.get(kind if isinstance(kind, str) and kind in kinds else closest_match(kind, [*kinds]))
    return nodes[0] if kinds else max(nodes, key=lambda node: len(node.model_fields.keys() & value.keys()))


def field_at(path: KeyPath, root: type[Node], data: Any) -> FieldInfo | None:
    """Return the field at a path of the data."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return None
    return next(
        (node.model_fields[path[-1]] for node in nodes_at(path[:-1], root, data) if path[-1] in node.model_fields),
        None,
    )


def nodes_at(path: KeyPath, root: type[Node], data: Any) -> list[type[Node]]:
    """Return the node class at a path of the data, or several if its kind is unknown."""
    nodes = [root]
    below: Any = data
    for part in path:
        known = part in below if isinstance(below, dict) else isinstance(below, list) and isinstance(part, int)
        below = below[part] if known else None
        fields = [node.model_fields[part] for node in nodes if part in node.model_fields]
        if fields:  # otherwise the part is an index of a list or a free key
            nodes = [node for field in fields for node in nodes_in(field.annotation)]
        if any(is_dict(field.annotation) for field in fields):
            continue
        if isinstance(below, dict) and nodes:
            chosen = node_for(nodes, below)
            nodes = [chosen] if chosen else nodes
    return nodes


def possible_nodes(path: KeyPath, root: type[Node], data: Any) -> list[type[Node]]:
    """Return the node classes that are allowed at a path, of every kind."""
    parents = nodes_at(path[:-1], root, data) if path else []
    fields = [parent.model_fields[str(path[-1])] for parent in parents if path[-1] in parent.model_fields]
    return [node for field in fields for node in nodes_in(field.annotation)]


def kind_with_key(key: object, path: KeyPath, root: type[Node], data: Any) -> str:
    """Return another kind of node, at a path or around it, that has the key; empty if there is none."""
    for end in range(len(path), 0, -1):
        for parent in nodes_at(path[: end - 1], root, data):
            field = parent.model_fields.get(str(path[end - 1]))
            for node in nodes_in(field.annotation) if field else ():
                below = _follow(node, path[end:])
                if kinds_of(node) and any(key in one.model_fields for one in below):
                    return kinds_of(node)[0]
    return ""


def _follow(node: type[Node], path: KeyPath) -> list[type[Node]]:
    """Return the node classes that are allowed at a path below a node."""
    nodes = [node]
    for part in path:
        if isinstance(part, str):
            fields = [one.model_fields[part] for one in nodes if part in one.model_fields]
            nodes = [below for field in fields for below in nodes_in(field.annotation)]
    return nodes


def bare_kinds(field: FieldInfo) -> list[str]:
    """Return the kinds that a field takes by their names alone, such as performer."""
    kinds = [kind for node in nodes_in(field.annotation) for kind in kinds_of(node)]
    return kinds if field.examples and field.examples[0] in kinds else []


def is_dict(annotation: Any) -> bool:
    """Whether a field is a mapping with free keys, as search.space and the arguments of timm models are."""
    return dict in (get_origin(annotation), *map(get_origin, get_args(annotation)))


def find_field(key: str, node: type[Node], path: KeyPath = ()) -> list[KeyPath]:
    """Return the nodes of the tree that have a field of this name. Lists and mappings with free keys are skipped."""
    found = [path] if key in node.model_fields and path else []
    for name, field in node.model_fields.items():
        if "tuple" in str(field.annotation) or is_dict(field.annotation):
            continue
        for below in nodes_in(field.annotation):
            found += find_field(key, below, (*path, name))
    return list(dict.fromkeys(found))
