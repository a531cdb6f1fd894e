"""What a parser's complaint means to a person: the place that is wrong, the rule, and what to write instead."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import yaml

from t2tbuild.errors import Diagnostic
from t2tbuild.spec.scalars import odd_character

_NO_SPACE = re.compile(r"\s*(?:- +)*[{\[]?([A-Za-z_]\w*:)(?=[^\s:/])")
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class Span(NamedTuple):
    """Characters of one line, counted from 0."""

    line: int
    column: int
    length: int = 1


class Told(NamedTuple):
    """A place, the rule's name, what is wrong there, and what to write instead."""

    span: Span
    rule: str
    message: str
    hint: str = ""


def refuse_encoding(raw: bytes, error: UnicodeDecodeError, file: str) -> Diagnostic:
    """What is wrong with a file that is not UTF-8, at its first wrong byte."""
    line = raw.count(b"\n", 0, error.start) + 1
    start = raw.rfind(b"\n", 0, error.start) + 1
    column = len(raw[start : error.start].decode("utf-8-sig", "replace")) + 1
    kind = _BOMS.get(raw[:2], "not UTF-8")
    text = raw[start:].split(b"\n", 1)[0].decode("utf-8", "replace") if kind == "not UTF-8" else ""
    message = f"{kind} text" if kind == "UTF-16" else f"not UTF-8 text: byte 0x{raw[error.start]:02x}"
    return Diagnostic(file, line, column, "", "encoding", message, "save the file as UTF-8", text=text)


def missing_space(line: str) -> re.Match[str] | None:
    """The key of `depth:14`, which YAML reads as text, for want of a space."""
    return _NO_SPACE.match(line)


def explain_syntax(error: yaml.YAMLError, text: str) -> Iterator[Told]:
    """What a complaint of PyYAML or libyaml is about."""
    lines = text.splitlines()
    if not isinstance(error, yaml.MarkedYAMLError):
        yield _unreadable(error, lines)
        return
    mark = error.problem_mark or error.context_mark
    opened = error.context_mark or mark
    problem, context = error.problem or "", error.context or ""
    at = Span(mark.line, mark.column) if mark else Span(0, 0)
    above = Span(opened.line, opened.column) if opened else at
    line = lines[at.line] if at.line < len(lines) else ""
    character = line[at.column : at.column + 1]
    for number in range(max(0, above.line - 1), min(at.line + 1, len(lines))):
        found = missing_space(lines[number])
        if found and "flow" not in context:
            span = Span(number, found.start(1), found.end(1) - found.start(1))
            key = found[1]
            yield Told(span, "space", f"no space after {key!r:.60}", f"write {key.rstrip(':')}: and a space")
            return
    if character == "\t" or (problem.startswith("found a tab") or "tab" in problem):
        yield Told(at, "tab", "a tab cannot indent YAML", "use spaces")
    elif odd := odd_character(line):
        place = next(index for index, odd_one in enumerate(line) if odd_character(odd_one))
        yield Told(Span(at.line, place), "character", odd.partition("; ")[0], odd.partition("; ")[2])
    elif "quoted scalar" in context or "quoted scalar" in problem:
        yield Told(above, "quote", "the quote that is opened here is never closed", "close it in the same line")
    elif "flow sequence" in context or "flow mapping" in context:
        bracket = "]" if "sequence" in context else "}"
        yield Told(
            above, "bracket", f"the bracket that is opened here is not closed by {bracket!r}", _flow_hint(bracket)
        )
    elif "undefined alias" in problem:
        yield Told(at, "alias", "an alias of an anchor that is nowhere", "write the value out")
    elif "duplicate anchor" in problem:
        yield Told(at, "alias", "an anchor that stands twice", "write the value out")
    elif "mapping values are not allowed" in problem:
        yield Told(at, "yaml", "a second ':' in one line", "put the text in quotes, or start a new line")
    elif "cannot start any token" in problem and character:
        yield Told(at, "yaml", f"a value cannot start with {character!r}", "put it in quotes")
    elif "could not find expected ':'" in problem:
        yield Told(above, "yaml", "a line that is neither 'key: value' nor '- item'", "write key: value")
    elif "block mapping" in context or "block collection" in context or "block sequence" in context:
        hint = "indent it as the lines it belongs to, with spaces"
        yield Told(at, "indent", "this does not go on with what stands above it", hint)
    else:
        yield Told(at, "yaml", f"not YAML: {problem or context}", "docs/spec.md has an example of each kind")


def _flow_hint(bracket: str) -> str:
    return f"close it with {bracket}, and put commas between what stands inside"


def _unreadable(error: yaml.YAMLError, lines: list[str]) -> Told:
    """A character that YAML forbids: NUL and other controls."""
    for number, line in enumerate(lines):
        for column, character in enumerate(line):
            if not (character.isprintable() or character in "\t\x85\xa0") and not _allowed(character):
                return Told(
                    Span(number, column),
                    "character",
                    f"character U+{ord(character):04X} cannot stand in YAML",
                    "remove it",
                )
    return Told(Span(0, 0), "yaml", f"not YAML: {str(error).splitlines()[0]:.100}", "save the file as plain text")


def _allowed(character: str) -> bool:
    code = ord(character)
    return 0xA0 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
