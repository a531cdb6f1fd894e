"""Diagnostics of an invalid spec, from pydantic's errors and the rules: place, field, rule, value, what to write."""

from contextlib import suppress

from pydantic import ValidationError

from t2tbuild.errors import Diagnostic
from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics import suggestions
from t2tbuild.spec.diagnostics.introspect import MAX_ERRORS, bare_kinds, field_at
from t2tbuild.spec.diagnostics.partial_validation import check_rules
from t2tbuild.spec.diagnostics.pydantic_errors import ValidationIssue, collect_issues
from t2tbuild.spec.diagnostics.scalars import ScalarError, format_value, parse_scalar
from t2tbuild.spec.diagnostics.yaml_source import Place, YamlSource, format_path


def build_diagnostics(error: ValidationError, source: YamlSource, root: type[Node]) -> list[Diagnostic]:
    """Return a diagnostic for each mistake in `source`, which was validated as a `root`, in the order of the file.

    Rules across fields are checked even if some fields are invalid; see `partial_validation`. At most MAX_ERRORS are
    returned, and one more that holds the number of the others.
    """
    issues = sorted(collect_issues(error, source.data, root), key=lambda one: _position(source.key_place(one.path)))
    found = [_build_one(issue, source, root) for issue in issues[:MAX_ERRORS]]
    found += [
        source.section_place(finding.path).diagnostic(finding.path, finding.rule, finding.message, finding.hint)
        for finding in check_rules(root, source.data)
    ]
    if not found:  # should not happen, but an invalid spec must have a message
        found = [source.place(()).diagnostic((), "rule", one["msg"]) for one in error.errors()]
    found = sorted(found, key=_position)
    more = len(found[MAX_ERRORS:]) + len(issues[MAX_ERRORS:])
    last = [Diagnostic(source.file, 0, 0, "", "more", f"{more} more mistakes", "fix these first")] if more else []
    return [*found[:MAX_ERRORS], *last]


def _position(where: Place | Diagnostic) -> tuple[int, int]:
    return where.line, where.column


def _as_written(value: object, place: Place) -> str:
    """Return a value as the file has it: 1e9 rather than 1000000000.0."""
    text = place.text[place.column - 1 : place.column - 1 + place.length]
    if isinstance(value, float) and len(text) <= 60:
        with suppress(ScalarError):
            if isinstance(parse_scalar(text), float):  # in an override, the place may be the key
                return text
    return format_value(value)


def _build_one(issue: ValidationIssue, source: YamlSource, root: type[Node]) -> Diagnostic:
    """Return the diagnostic of one issue: place, field, rule, value, what to write."""
    path, value, kind = issue.path, issue.value, issue.kind
    here = format_path(path) or "the spec"
    if kind == "extra_forbidden":
        inside = f" in {format_path(path[:-1])}" if path[:-1] else ""
        place = source.key_place(path)
        hint = suggestions.for_unknown_key(path[-1], value, path[:-1], root, source.data, is_override=not place.line)
        return place.diagnostic(path, "unknown-key", f"unknown key {path[-1]!r:.60}{inside}", hint)
    if kind == "missing":
        hint = suggestions.for_missing_key(issue.key, path, root, source.data)
        message = f"missing key {issue.key!r} in {here}"
        return source.key_place(path).diagnostic((*path, issue.key), "missing-key", message, hint)
    place, field = source.place(path), field_at(path, root, source.data)
    if kind in ("units", "extension-missing"):  # these have a message and a hint of their own
        return place.diagnostic(path, kind, f"{here}: {issue.context['message']}", issue.context["hint"])
    context = issue.context
    if kind.startswith("model_") and field and (kinds := bare_kinds(field)):  # the field takes the name of a kind
        kind, context = "literal_error", {"expected": ", ".join(kinds)}
    message = suggestions.rule_in_words(kind, context, value) or issue.message
    got = "" if kind == "dimension" else f", got {len(value) if kind.startswith('too_') else _as_written(value, place)}"
    hint = suggestions.for_value(kind, value, context, field, path)
    if kind.startswith("less_than"):
        hint = suggestions.for_size(path, value, source.data) or hint
    of_kind = kind == "literal_error" and (context is not issue.context or path[-1:] == ("kind",))
    rule = "kind" if of_kind else suggestions.RULES.get(kind, kind)
    return place.diagnostic(path, rule, f"{here} {message}{got}", hint)
