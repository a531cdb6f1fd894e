"""pydantic's errors as mistakes of a person: each once, at a path of the data, without the echoes of unions."""

import copy
import math
from typing import Any, NamedTuple

from pydantic import ValidationError

from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics.introspect import MOST, at, is_dict, kinds_of, nearest, nodes_at, nodes_in
from t2tbuild.spec.diagnostics.yaml_source import Keys

# Of several errors at one place, which pydantic gives for the members of a union, the first of these is told.
_TELLING = (
    *("too_short", "too_long", "finite_number", "units", "extra_forbidden"),
    *("less_than", "less_than_equal", "greater_than", "greater_than_equal"),
    *("float_type", "int_type", "int_from_float"),
)


class Mistake(NamedTuple):
    """One mistake: where, what stands there, pydantic's kind and context of it, and the key that is missing, if any."""

    path: Keys
    value: Any
    kind: str
    context: dict[str, Any]
    message: str
    key: str = ""


def mistakes_of(error: ValidationError, data: Any, root: type[Node]) -> list[Mistake]:
    """What is wrong with single fields of `data`, read as a `root`; rules across fields are left to others."""
    found = _all(error, data, root)
    return _one_a_place([*found, *_behind_a_wrong_kind(found, data, root)])


def choices(context: dict[str, Any], value: object) -> list[str]:
    """The choices of a field, that which looks like the value first."""
    listed = str(context.get("expected", context.get("expected_tags", "")))
    known = [choice.strip(" '") for choice in listed.replace(" or ", ", ").split(",")]
    near = nearest(value, known)
    return sorted(known, key=lambda choice: choice != near)


def _all(error: ValidationError, data: Any, root: type[Node]) -> list[Mistake]:
    found = [item for item in error.errors(include_url=False) if item["type"] != "rule"]
    return [_mistake(item, data, root) for item in found[: 10 * MOST]]  # unions tell a mistake several times


def _mistake(error: Any, data: Any, root: type[Node]) -> Mistake:
    """One error at its path in the data, with the value there."""
    kind, context, loc = error["type"], error.get("ctx", {}), error["loc"]
    path = _path(loc[:-1] if kind == "missing" else loc, data, root)
    value, key = at(path, data), ""
    if kind == "missing" and isinstance(loc[-1], int):  # an item of a list of fixed length
        kind, context = "too_short", {"min_length": loc[-1] + 1}
    elif kind == "missing":
        key = loc[-1]
    if kind == "union_tag_not_found" and isinstance(value, dict):
        kind, key = "missing", "kind"
    if kind == "union_tag_invalid" and isinstance(value, dict):
        value, path = value["kind"], (*path, "kind")
    if kind in ("int_type", "float_type") and isinstance(value, float) and not math.isfinite(value):
        kind = "finite_number"
    return Mistake(path, value, kind, context, error["msg"][:1].lower() + error["msg"][1:], key)


def _path(loc: tuple[str | int, ...], data: Any, root: type[Node]) -> Keys:
    """The path in the data of pydantic's `loc`, which also holds the kinds and types of the members of unions."""
    path: list[str | int] = []
    nodes, free = [root], False  # the nodes that may stand here; whether a mapping here has keys of a person's choice
    for part in loc:
        tags = {tag for node in nodes for tag in (node.__name__, *kinds_of(node))} if len(nodes) > 1 else set()
        if part in tags and not free:
            nodes = [node for node in nodes if part in (node.__name__, *kinds_of(node))]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
            path.append(part)
        elif isinstance(data, dict) and part in data and (nodes or free):
            data = data[part]
            path.append(part)
            fields = [] if free else [node.model_fields[str(part)] for node in nodes if part in node.model_fields]
            nodes = nodes if free else [below for field in fields for below in nodes_in(field.annotation)]
            free = any(is_dict(field.annotation) for field in fields)
    return tuple(path)


def _behind_a_wrong_kind(found: list[Mistake], data: Any, root: type[Node]) -> list[Mistake]:
    """The mistakes in mappings whose kind is none, read as the kind that is meant; pydantic stops at the kind."""
    repaired, known = copy.deepcopy(data), {mistake.path for mistake in found}
    guessed: dict[Keys, type[Node]] = {}
    for mistake in found:
        here = mistake.path[:-1]
        node = at(here, repaired)
        if mistake.kind == "union_tag_invalid" and isinstance(node, dict) and "kind" in node:
            near = nearest(mistake.value, choices(mistake.context, mistake.value))
            nodes = [one for one in nodes_at(here, root, data) if near in ("", *kinds_of(one))]
            guessed[here] = max(nodes, key=lambda one: len(one.model_fields.keys() & node.keys()))
            node["kind"] = near or kinds_of(guessed[here])[0]
    if not guessed:
        return []
    try:
        root.model_validate(repaired)
    except ValidationError as again:
        behind = [mistake for mistake in _all(again, data, root) if mistake.path not in known]
        strange = {
            mistake.path[:-1]
            for mistake in behind
            if mistake.kind == "extra_forbidden"
            and (guess := guessed.get(mistake.path[:-1]))
            and not nearest(mistake.path[-1], list(guess.model_fields))
        }  # a guess whose fields are strange to it is no good one
        return [mistake for mistake in behind if not any(mistake.path[: len(path)] == path for path in strange)]
    return []


def _one_a_place(found: list[Mistake]) -> list[Mistake]:
    """One mistake a place.

    None for a list whose items' own mistakes say it better, none for a missing key whose misspelling is told.
    """

    def weight(mistake: Mistake) -> tuple[int, int]:
        telling = _TELLING.index(mistake.kind) if mistake.kind in _TELLING else len(_TELLING)
        return telling, -mistake.context.get("min_length", 0)

    at: dict[Keys, list[Mistake]] = {}
    around: set[Keys] = set()
    misspelt: dict[Keys, list[str]] = {}
    for mistake in found:
        if mistake.kind != "missing":
            at.setdefault(mistake.path, []).append(mistake)
            around.update(mistake.path[:end] for end in range(len(mistake.path)))
        if mistake.kind == "extra_forbidden":
            misspelt.setdefault(mistake.path[:-1], []).append(str(mistake.path[-1]))
    message = []
    for mistake in found:
        if mistake.kind == "missing":
            if not any(nearest(key, [mistake.key]) for key in misspelt.get(mistake.path, ())[:MOST]):
                message.append(mistake)
        elif mistake is min(at[mistake.path], key=weight):
            items_say_it = mistake.path in around and isinstance(mistake.value, list)
            any_scalar = {"bool_type", "string_type"} <= {other.kind for other in at[mistake.path]}
            if not items_say_it:
                message.append(mistake._replace(kind="scalar_type") if any_scalar else mistake)
    return message
