"""Normalise pydantic's errors: one issue for each mistake, at its path in the data, without a union's duplicates."""

import copy
import math
from typing import Any, NamedTuple

from pydantic import ValidationError

from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics.introspect import (
    MAX_ERRORS,
    closest_match,
    is_dict,
    kinds_of,
    nodes_at,
    nodes_in,
    value_at,
)
from t2tbuild.spec.diagnostics.yaml_source import KeyPath

# pydantic reports an error for each member of a union. Of several errors at one place, the first of these is kept.
_PRIORITY = (
    *("too_short", "too_long", "finite_number", "units", "extra_forbidden"),
    *("less_than", "less_than_equal", "greater_than", "greater_than_equal"),
    *("float_type", "int_type", "int_from_float"),
)


class ValidationIssue(NamedTuple):
    """A mistake: its path, the value there, pydantic's kind and context, and the missing key, if any."""

    path: KeyPath
    value: Any
    kind: str
    context: dict[str, Any]
    message: str
    key: str = ""


def collect_issues(error: ValidationError, data: Any, root: type[Node]) -> list[ValidationIssue]:
    """Return the issues of single fields of `data`, read as a `root`. Violations of rules are left out."""
    found = _field_issues(error, data, root)
    return _one_per_place([*found, *_issues_behind_unknown_kind(found, data, root)])


def choices(context: dict[str, Any], value: object) -> list[str]:
    """Return the choices of a field, the closest match of the value first."""
    listed = str(context.get("expected", context.get("expected_tags", "")))
    known = [choice.strip(" '") for choice in listed.replace(" or ", ", ").split(",")]
    near = closest_match(value, known)
    return sorted(known, key=lambda choice: choice != near)


def _field_issues(error: ValidationError, data: Any, root: type[Node]) -> list[ValidationIssue]:
    found = [item for item in error.errors(include_url=False) if item["type"] != "rule"]
    issues = [_issue(item, data, root) for item in found[: 10 * MAX_ERRORS]]  # unions report a mistake several times
    return [issue for issue in issues if not _is_other_form(issue, data, root)]


def _is_other_form(issue: ValidationIssue, data: Any, root: type[Node]) -> bool:
    """Whether a field that is a mapping or a word has a mapping, whose own mistakes are reported."""
    return issue.kind == "literal_error" and isinstance(issue.value, dict) and bool(nodes_at(issue.path, root, data))


def _issue(error: Any, data: Any, root: type[Node]) -> ValidationIssue:
    """Return the issue of one error: its path in the data, and the value there."""
    kind, context, loc = error["type"], error.get("ctx", {}), error["loc"]
    path = _path(loc[:-1] if kind == "missing" else loc, data, root)
    value, key = value_at(path, data), ""
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
    return ValidationIssue(path, value, kind, context, error["msg"][:1].lower() + error["msg"][1:], key)


def _path(loc: tuple[str | int, ...], data: Any, root: type[Node]) -> KeyPath:
    """Return the path in the data of pydantic's `loc`, which also holds the kinds and types of union members."""
    path: list[str | int] = []
    nodes, free = [root], False  # the nodes allowed here; whether a mapping here has free keys
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


def _issues_behind_unknown_kind(found: list[ValidationIssue], data: Any, root: type[Node]) -> list[ValidationIssue]:
    """Return the issues in mappings with an unknown kind, read as the closest kind; pydantic stops at the kind."""
    repaired, known = copy.deepcopy(data), {issue.path for issue in found}
    guessed: dict[KeyPath, type[Node]] = {}
    for issue in found:
        here = issue.path[:-1]
        node = value_at(here, repaired)
        if issue.kind == "union_tag_invalid" and isinstance(node, dict) and "kind" in node:
            near = closest_match(issue.value, choices(issue.context, issue.value))
            nodes = [one for one in nodes_at(here, root, data) if near in ("", *kinds_of(one))]
            guessed[here] = max(nodes, key=lambda one: len(one.model_fields.keys() & node.keys()))
            node["kind"] = near or kinds_of(guessed[here])[0]
    if not guessed:
        return []
    try:
        root.model_validate(repaired)
    except ValidationError as again:
        behind = [issue for issue in _field_issues(again, data, root) if issue.path not in known]
        unknown = {
            issue.path[:-1]
            for issue in behind
            if issue.kind == "extra_forbidden"
            and (guess := guessed.get(issue.path[:-1]))
            and not closest_match(issue.path[-1], list(guess.model_fields))
        }  # unknown fields mean that the kind was guessed wrong
        return [issue for issue in behind if not any(issue.path[: len(path)] == path for path in unknown)]
    return []


def _one_per_place(found: list[ValidationIssue]) -> list[ValidationIssue]:
    """Return one issue for each place.

    A list is left out if its items have issues of their own, and a missing key if an unknown key is its misspelling.
    """

    def weight(issue: ValidationIssue) -> tuple[int, int]:
        rank = _PRIORITY.index(issue.kind) if issue.kind in _PRIORITY else len(_PRIORITY)
        if issue.kind == "model_type" and isinstance(issue.value, str):
            rank += 1  # behind the words that the field may have
        return rank, -issue.context.get("min_length", 0)

    by_path: dict[KeyPath, list[ValidationIssue]] = {}
    around: set[KeyPath] = set()
    misspelt: dict[KeyPath, list[str]] = {}
    for issue in found:
        if issue.kind != "missing":
            by_path.setdefault(issue.path, []).append(issue)
            around.update(issue.path[:end] for end in range(len(issue.path)))
        if issue.kind == "extra_forbidden":
            misspelt.setdefault(issue.path[:-1], []).append(str(issue.path[-1]))
    kept = []
    for issue in found:
        if issue.kind == "missing":
            if not any(closest_match(key, [issue.key]) for key in misspelt.get(issue.path, ())[:MAX_ERRORS]):
                kept.append(issue)
        elif issue is min(by_path[issue.path], key=weight):
            items_have_issues = issue.path in around and isinstance(issue.value, list)
            any_scalar = {"bool_type", "string_type"} <= {other.kind for other in by_path[issue.path]}
            if not items_have_issues:
                kept.append(issue._replace(kind="scalar_type") if any_scalar else issue)
    return kept
