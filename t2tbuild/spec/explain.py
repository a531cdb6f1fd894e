"""The errors of pydantic, told as a person would: place, field, rule, value, what to write instead."""

import difflib
from typing import Any, get_args

from pydantic import ValidationError

from t2tbuild.errors import Diagnostic
from t2tbuild.spec.base import Node
from t2tbuild.spec.yaml_source import Keys, Source, dotted

# Of several errors at one place, which pydantic gives for the members of a union, the first of these is told.
_TELLING = ("rule", "finite_number", "units", "missing", "extra_forbidden", "float_type", "int_type", "int_from_float")


def explain(error: ValidationError, source: Source, root: type[Node]) -> list[Diagnostic]:
    """What pydantic found wrong in `source`, read as a `root`: each mistake once, at its place, with what to write."""
    errors = _one_a_place([dict(item) for item in error.errors(include_url=False)], source.data)
    return [_explain(item, source, root) for item in errors]


def _one_a_place(errors: list[dict[str, Any]], data: Any) -> list[dict[str, Any]]:
    """The errors without echoes: one a place, and none for a list whose items' own errors say it better."""
    placed = [(_locate(error["loc"], data)[0], error) for error in errors]

    def weight(error: dict[str, Any]) -> int:
        return _TELLING.index(error["type"]) if error["type"] in _TELLING else len(_TELLING)

    told = []
    for path, error in placed:
        if error["type"] in ("missing", "rule"):
            told.append(error)
            continue
        here = [other for place, other in placed if place == path and other["type"] not in ("missing", "rule")]
        inside = any(len(place) > len(path) and place[: len(path)] == path for place, _ in placed)
        scalar_wanted = isinstance(_locate(error["loc"], data)[1], list)
        if error is min(here, key=weight) and not (inside and scalar_wanted):
            told.append(error)
    return told


def _explain(error: dict[str, Any], source: Source, root: type[Node]) -> Diagnostic:
    """One error of pydantic as a diagnostic: the place, the field, the rule, the value, what to write."""
    path, value = _locate(error["loc"], source.data)
    context = error.get("ctx", {})
    kind = error["type"]
    here = dotted(path) or "the spec"
    if kind == "rule":
        path = (*path, *context["field"])
        return source.place(path).diagnostic(path, context["message"], context["hint"])
    if kind == "extra_forbidden":
        place = source.keys.get(path, source.place(path))
        inside = f" in {dotted(path[:-1])}" if path[:-1] else ""
        return place.diagnostic(
            path, f"unknown key {path[-1]!r}{inside}", _nearest_key(str(path[-1]), error["loc"][:-1], root)
        )
    if kind == "union_tag_invalid":
        path, value = ((*path, "kind") if isinstance(value, dict) else path), context["tag"]
        here = dotted(path)
    if kind == "missing":
        missing = error["loc"][-1]
        return source.place(path).diagnostic((*path, missing), f"missing key {missing!r} in {here}")
    known = _MESSAGES.get(kind)
    message = known.format(**context) if known else error["msg"][0].lower() + error["msg"][1:]
    choices = context.get("expected", context.get("expected_tags"))
    if isinstance(choices, str) and isinstance(value, str):
        near = difflib.get_close_matches(value, choices.replace("'", "").replace(" or ", ", ").split(", "))
        hint = f"did you mean {near[0]!r}?" if near else ""
    else:
        hint = _hint(kind, value)
    got = "" if kind in ("units", "dimension", "repeats") else f", got {_shown(value)}"
    return source.place(path).diagnostic(
        path, f"{here} {message}{got}" if kind != "units" else f"{here}: {message}", hint
    )


_MESSAGES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "must have a kind",
    "string_pattern_mismatch": "must be letters, digits, '.', '_' and '-', at most 64",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must list at least {min_length}",
    "too_long": "must list at most {max_length}",
    "units": "{message}",
}


def _hint(kind: str, value: object) -> str:
    if kind in ("int_type", "float_type", "int_from_float") and isinstance(value, str) and value.strip():
        try:
            float(value)
        except ValueError:
            return ""
        return "remove the quotes"
    if kind in ("int_type", "int_from_float") and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    return ""


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _locate(loc: tuple[str | int, ...], data: Any) -> tuple[Keys, Any]:
    """The path of pydantic's `loc` in the data, without the tags of unions, and the value there."""
    path: list[str | int] = []
    for part in loc:
        in_list = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if in_list or (isinstance(data, dict) and part in data):
            data = data[part]
            path.append(part)
    return tuple(path), data


def _nearest_key(key: str, loc: tuple[str | int, ...], root: type[Node]) -> str:
    """The field nearest to a mistyped key, of the nodes that may stand at pydantic's `loc` below `root`."""
    nodes = [root]
    for part in loc:
        below = [node.model_fields[part].annotation for node in nodes if part in node.model_fields]
        if below:
            nodes = [node for annotation in below for node in _nodes_in(annotation)]
        else:  # the tag of a union, the index of a list or the key of a mapping
            tagged = [
                node for node in nodes if "kind" in node.model_fields and node.model_fields["kind"].default == part
            ]
            nodes = tagged or nodes
    known = [field for node in nodes for field in node.model_fields]
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(dict.fromkeys(known))}"


def _nodes_in(annotation: Any) -> list[type[Node]]:
    if isinstance(annotation, type) and issubclass(annotation, Node):
        return [annotation]
    return [node for inner in get_args(annotation) for node in _nodes_in(inner)]
