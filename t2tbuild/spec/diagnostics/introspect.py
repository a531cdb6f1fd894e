"""The tree of nodes itself: which node may stand where, which field is at a path, which word is near another."""

import difflib
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics.yaml_source import Keys

MAX_COMPARED = 64
"""Characters of a word that is compared with others."""


MOST = 100
"""Mistakes of a file that are told; who has more has not written a spec."""


def at(path: Keys, data: Any) -> Any:
    """What stands at a path of plain data."""
    for part in path:
        data = data[part]
    return data


def nearest(word: object, known: list[str], cutoff: float = 0.6) -> str:
    """The known word that a mistyped one most likely means; empty where none is near."""
    if not isinstance(word, str) or len(word) > MAX_COMPARED:
        return ""
    folded = word.strip().lower().replace("-", "_")
    near = [name for name in known if name.lower() == folded] or difflib.get_close_matches(
        folded, known, n=1, cutoff=cutoff
    )
    return near[0] if near else ""


def kinds_of(node: type[Node]) -> list[str]:
    """The kinds by which a node is told from others in its place, of which it may have several."""
    return list(get_args(node.model_fields["kind"].annotation)) if "kind" in node.model_fields else []


def nodes_in(annotation: Any) -> list[type[Node]]:
    """The nodes that may stand where a field has this annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Node):
        return [annotation]
    return [node for inner in get_args(annotation) for node in nodes_in(inner)]


def node_for(nodes: list[type[Node]], value: Any) -> type[Node] | None:
    """The node of several that a mapping is meant as: by its kind, else by its keys."""
    if not nodes:
        return None
    if not isinstance(value, dict):
        return nodes[0]
    kinds = {kind: node for node in nodes for kind in kinds_of(node)}
    if "kind" in value and kinds:
        kind = value["kind"]
        return kinds.get(kind if isinstance(kind, str) and kind in kinds else nearest(kind, [*kinds]))
    return nodes[0] if kinds else max(nodes, key=lambda node: len(node.model_fields.keys() & value.keys()))


def field_at(path: Keys, root: type[Node], data: Any) -> FieldInfo | None:
    """The field of the spec that stands at a path of the data."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return None
    return next(
        (node.model_fields[path[-1]] for node in nodes_at(path[:-1], root, data) if path[-1] in node.model_fields),
        None,
    )


def nodes_at(path: Keys, root: type[Node], data: Any) -> list[type[Node]]:
    """The node that stands at a path of the data; several where its kind is not known."""
    nodes = [root]
    below: Any = data
    for part in path:
        known = part in below if isinstance(below, dict) else isinstance(below, list) and isinstance(part, int)
        below = below[part] if known else None
        fields = [node.model_fields[part] for node in nodes if part in node.model_fields]
        if fields:  # else the index of a list or the key of a mapping
            nodes = [node for field in fields for node in nodes_in(field.annotation)]
        if any(is_dict(field.annotation) for field in fields):
            continue
        if isinstance(below, dict) and nodes:
            chosen = node_for(nodes, below)
            nodes = [chosen] if chosen else nodes
    return nodes


def kindred(path: Keys, root: type[Node], data: Any) -> list[type[Node]]:
    """All the nodes that may stand at a path, of whatever kind."""
    parents = nodes_at(path[:-1], root, data) if path else []
    fields = [parent.model_fields[str(path[-1])] for parent in parents if path[-1] in parent.model_fields]
    return [node for field in fields for node in nodes_in(field.annotation)]


def kind_with(key: object, path: Keys, root: type[Node], data: Any) -> str:
    """The other kind of node, at a path or around it, under which the key would be known; empty where there is none."""
    for end in range(len(path), 0, -1):
        for parent in nodes_at(path[: end - 1], root, data):
            field = parent.model_fields.get(str(path[end - 1]))
            for node in nodes_in(field.annotation) if field else ():
                below = _follow(node, path[end:])
                if kinds_of(node) and any(key in one.model_fields for one in below):
                    return kinds_of(node)[0]
    return ""


def _follow(node: type[Node], path: Keys) -> list[type[Node]]:
    """The nodes that may stand at a path below a node."""
    nodes = [node]
    for part in path:
        if isinstance(part, str):
            fields = [one.model_fields[part] for one in nodes if part in one.model_fields]
            nodes = [below for field in fields for below in nodes_in(field.annotation)]
    return nodes


def bare_kinds(field: FieldInfo) -> list[str]:
    """The kinds that may stand at a field by their bare names, such as performer."""
    kinds = [kind for node in nodes_in(field.annotation) for kind in kinds_of(node)]
    return kinds if field.examples and field.examples[0] in kinds else []


def is_dict(annotation: Any) -> bool:
    """Whether a field is a mapping with keys of a person's choice, as search.space and the arguments of timm are."""
    return dict in (get_origin(annotation), *map(get_origin, get_args(annotation)))


def homes(key: str, node: type[Node], path: Keys = ()) -> list[Keys]:
    """Where in the tree a field of this name stands, lists and mappings of a person's own keys left out."""
    found = [path] if key in node.model_fields and path else []
    for name, field in node.model_fields.items():
        if "tuple" in str(field.annotation) or is_dict(field.annotation):
            continue
        for below in nodes_in(field.annotation):
            found += homes(key, below, (*path, name))
    return list(dict.fromkeys(found))
