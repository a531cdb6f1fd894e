"""Errors of pydantic, told as a person would: place, field, rule, value, what to write instead."""

import copy
from typing import Any, NamedTuple

from pydantic import ValidationError

from t2tbuild.errors import Diagnostic
from t2tbuild.spec import hints
from t2tbuild.spec.base import VERSIONS, Node
from t2tbuild.spec.partial import broken_rules, nearest
from t2tbuild.spec.yaml_source import Keys, Source, dotted

MOST = 100  # mistakes of a file that are told; who has more has not written a spec

# Of several errors at one place, which pydantic gives for the members of a union, the first of these is told.
_TELLING = ("finite_number", "units", "extra_forbidden", "float_type", "int_type", "int_from_float")


class _Error(NamedTuple):
    """One error of pydantic, at a path of the data, with what stands there."""

    path: Keys
    value: Any
    kind: str
    context: dict[str, Any]
    loc: tuple[str | int, ...]
    message: str


def explain(error: ValidationError, source: Source, root: type[Node]) -> list[Diagnostic]:
    """What is wrong in `source`, read as a `root`: each mistake once, at its place, with what to write.

    Rules across fields are told together with the fields that are wrong; see `t2tbuild.spec.partial`.
    """
    errors = _located_errors(error, source.data)
    errors += _behind_a_wrong_kind(errors, source.data, root)
    told = [_explain(item, source, root) for item in _one_a_place(errors)[:MOST]]
    told += [
        source.place(found.path).diagnostic(found.path, found.rule, found.message, found.hint)
        for found in broken_rules(root, source.data)[:MOST]
    ]
    return sorted(told, key=lambda diagnostic: (diagnostic.line, diagnostic.column))[:MOST]


def _located_errors(error: ValidationError, data: Any) -> list[_Error]:
    """The errors of single fields, each with its path in the data."""
    return [_located(item, data) for item in error.errors(include_url=False) if item["type"] != "rule"]


def _behind_a_wrong_kind(errors: list[_Error], data: Any, root: type[Node]) -> list[_Error]:
    """The errors of mappings whose kind is misspelt, read as the kind that is meant; pydantic stops at the kind."""
    repaired, known = copy.deepcopy(data), {error.path for error in errors}
    guessed: list[Keys] = []  # a guess whose fields are strange to it is no good one
    for error in errors:
        if error.kind == "union_tag_invalid" and isinstance(error.value, dict):
            kinds = hints.choices(error.context, error.context["tag"])
            near = nearest(error.context["tag"], kinds)
            if not near:
                continue
            node = repaired
            for part in error.path:
                node = node[part]
            node["kind"] = near
            guessed.append(error.path)
    if not guessed:
        return []
    try:
        root.model_validate(repaired)
    except ValidationError as again:
        behind = [error for error in _located_errors(again, data) if error.path not in known]
        strange = {error.path[:-1] for error in behind if error.kind == "extra_forbidden"} & set(guessed)
        return [error for error in behind if not any(error.path[: len(path)] == path for path in strange)]
    return []


def _located(error: Any, data: Any) -> _Error:
    """An error with the path of its `loc` in the data, without the tags of unions, and the value there."""
    path: list[str | int] = []
    value = data
    for part in error["loc"]:
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if in_list or (isinstance(value, dict) and part in value):
            value = value[part]
            path.append(part)
    message = error["msg"][:1].lower() + error["msg"][1:]
    return _Error(tuple(path), value, error["type"], error.get("ctx", {}), error["loc"], message)


def _one_a_place(errors: list[_Error]) -> list[_Error]:
    """The errors without echoes: one a place.

    None for a list whose items' own errors say it better, none for a missing key whose misspelling is told.
    """

    def weight(error: _Error) -> int:
        return _TELLING.index(error.kind) if error.kind in _TELLING else len(_TELLING)

    at: dict[Keys, list[_Error]] = {}
    around: set[Keys] = set()
    misspelt: dict[Keys, list[str]] = {}
    for error in errors:
        if error.kind != "missing":
            at.setdefault(error.path, []).append(error)
            around.update(error.path[:end] for end in range(len(error.path)))
        if error.kind == "extra_forbidden":
            misspelt.setdefault(error.path[:-1], []).append(str(error.path[-1]))
    told = []
    for error in errors:
        if error.kind == "missing":
            fields = [str(error.loc[-1])]
            if not any(nearest(key, fields) for key in misspelt.get(error.path, ())[:MOST]):
                told.append(error)
        elif error is min(at[error.path], key=weight):
            items_say_it = error.path in around and isinstance(error.value, list)
            any_scalar = {"bool_type", "string_type"} <= {other.kind for other in at[error.path]}
            if not items_say_it:
                told.append(error._replace(kind="scalar_type") if any_scalar else error)
    return told


def _explain(error: _Error, source: Source, root: type[Node]) -> Diagnostic:
    """One error of pydantic as a diagnostic: the place, the field, the rule, the value, what to write."""
    path, value, kind = error.path, error.value, error.kind
    here = dotted(path) or "the spec"
    if kind == "extra_forbidden":
        place, key = source.keys.get(path, source.place(path)), path[-1]
        inside = f" in {dotted(path[:-1])}" if path[:-1] else ""
        hint = hints.for_unknown_key(key, value, path[:-1], root, source.data)
        return place.diagnostic(path, "unknown-key", f"unknown key {key!r:.60}{inside}", hint)
    if kind == "missing":
        key = error.loc[-1]
        place = source.keys.get(path, source.place(path))
        hint = hints.for_missing_key(str(key), path, root, source.data)
        return place.diagnostic((*path, key), "missing-key", f"missing key {key!r} in {here}", hint)
    if kind == "union_tag_invalid":
        path, value = ((*path, "kind") if isinstance(value, dict) else path), error.context["tag"]
        here = dotted(path)
    if kind == "union_tag_not_found" or (kind == "literal_error" and path[-1:] == ("kind",)):
        kind = "union_tag_invalid"
    place = source.place(path)
    if kind == "units":
        return place.diagnostic(path, "units", f"{here}: {error.context['message']}", error.context["hint"])
    message = hints.rule_in_words(kind, error.context, value) or error.message
    got = "" if kind == "dimension" else f", got {hints.shown(value)}"
    hint = hints.for_value(kind, value, error.context, hints.field_at(path, root, source.data))
    if kind in ("less_than_equal", "less_than"):
        hint = hints.for_size(path, value, source.data) or hint
    if kind == "version":
        hint = "; ".join(f"{version} is {what}" for version, what in VERSIONS.items())
    return place.diagnostic(path, hints.RULES.get(kind, kind), f"{here} {message}{got}", hint)
