"""What is wrong with a spec, told as a person would: place, field, rule, value, what to write instead."""

from pydantic import ValidationError

from t2tbuild.errors import Diagnostic
from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics import suggestions
from t2tbuild.spec.diagnostics.introspect import MOST, bare_kinds, field_at
from t2tbuild.spec.diagnostics.partial_validation import broken_rules
from t2tbuild.spec.diagnostics.pydantic_errors import Mistake, mistakes_of
from t2tbuild.spec.diagnostics.scalars import shown
from t2tbuild.spec.diagnostics.yaml_source import Place, Source, dotted


def explain(error: ValidationError, source: Source, root: type[Node]) -> list[Diagnostic]:
    """What is wrong in `source`, read as a `root`: each mistake once, at its place, with what to write.

    Rules across fields are listed together with the fields that are wrong; see `partial_validation`.
    """
    mistakes = sorted(mistakes_of(error, source.data, root), key=lambda one: _position(source.key_place(one.path)))
    told = [_explain(mistake, source, root) for mistake in mistakes[:MOST]]
    told += [
        source.section(found.path).diagnostic(found.path, found.rule, found.message, found.hint)
        for found in broken_rules(root, source.data)
    ]
    if not told:  # never seen, but nobody is to be refused without a word
        told = [source.place(()).diagnostic((), "rule", one["msg"]) for one in error.errors()]
    told = sorted(told, key=_position)
    more = len(told[MOST:]) + len(mistakes[MOST:])
    last = [Diagnostic(source.file, 0, 0, "", "more", f"{more} more mistakes", "mend these first")] if more else []
    return [*told[:MOST], *last]


def _position(where: Place | Diagnostic) -> tuple[int, int]:
    return where.line, where.column


def _written(value: object, place: Place) -> str:
    """A value as a person wrote it: 1e9 rather than 1000000000.0."""
    text = place.text[place.column - 1 : place.column - 1 + place.length]
    return text if isinstance(value, float) and text and len(text) <= 60 else shown(value)


def _explain(mistake: Mistake, source: Source, root: type[Node]) -> Diagnostic:
    """One mistake as a diagnostic: the place, the field, the rule, the value, what to write."""
    path, value, kind = mistake.path, mistake.value, mistake.kind
    here = dotted(path) or "the spec"
    if kind == "extra_forbidden":
        inside = f" in {dotted(path[:-1])}" if path[:-1] else ""
        hint = suggestions.for_unknown_key(path[-1], value, path[:-1], root, source.data)
        return source.key_place(path).diagnostic(path, "unknown-key", f"unknown key {path[-1]!r:.60}{inside}", hint)
    if kind == "missing":
        hint = suggestions.for_missing_key(mistake.key, path, root, source.data)
        told = f"missing key {mistake.key!r} in {here}"
        return source.key_place(path).diagnostic((*path, mistake.key), "missing-key", told, hint)
    place, field = source.place(path), field_at(path, root, source.data)
    if kind == "units":
        return place.diagnostic(path, "units", f"{here}: {mistake.context['message']}", mistake.context["hint"])
    context = mistake.context
    if kind.startswith("model_") and field and (kinds := bare_kinds(field)):  # a kind may stand here by its bare name
        kind, context = "literal_error", {"expected": ", ".join(kinds)}
    message = suggestions.rule_in_words(kind, context, value) or mistake.message
    got = "" if kind == "dimension" else f", got {len(value) if kind.startswith('too_') else _written(value, place)}"
    hint = suggestions.for_value(kind, value, context, field, path)
    if kind.startswith("less_than"):
        hint = suggestions.for_size(path, value, source.data) or hint
    of_kind = kind == "literal_error" and (context is not mistake.context or path[-1:] == ("kind",))
    rule = "kind" if of_kind else suggestions.RULES.get(kind, kind)
    return place.diagnostic(path, rule, f"{here} {message}{got}", hint)
