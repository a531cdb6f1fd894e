"""What a parser's complaint means to a person: the place that is wrong, the rule, and what to write instead."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from t2tbuild.errors import Diagnostic
from t2tbuild.spec.diagnostics.scalars import odd_character

_NO_SPACE = re.compile(r"\s*(?:- +)*[{\[]?([A-Za-z_]\w*:)(?=[^\s:/])")
_NO_SPACE_AFTER_DASH = re.compile(r"\s*(-)([A-Za-z_]\w*:.*)")
_NO_BRACES = re.compile(r"\s*(?:- +)?(?:[A-Za-z_]\w*: +)?([A-Za-z_]\w*: *[^{}:,]+(?:, *[A-Za-z_]\w*: *[^{}:,]+)+)$")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # its byte-order marks


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
    message, text = "UTF-16 text", ""
    if raw[:2] not in _UTF_16:
        message = f"not UTF-8 text: byte 0x{raw[error.start]:02x}"
        text = raw[start:].split(b"\n", 1)[0].decode("utf-8", "replace")
    return Diagnostic(file, line, column, "", "encoding", message, "save the file as UTF-8", text=text)


def lines_of(text: str) -> list[str]:
    """The lines of a text as YAML counts them."""
    return _LINE_BREAK.split(text)


def missing_space(line: str) -> re.Match[str] | None:
    """The key of `depth:14`, which YAML reads as text, for want of a space."""
    return _NO_SPACE.match(line)


def explain_syntax(error: yaml.YAMLError, text: str) -> Told:
    """What a complaint of PyYAML or libyaml is about."""
    lines = lines_of(text)
    if not isinstance(error, yaml.MarkedYAMLError):
        return _forbidden(error, text)
    at = _span(error.problem_mark or error.context_mark)
    opened = _span(error.context_mark) if error.context_mark else at
    complaint = _Complaint(lines, at, opened, error.problem or "", error.context or "")
    for look in _LOOKS:
        if message := look(complaint):
            return message
    return Told(at, "yaml", f"not YAML: {complaint.problem or complaint.context}", _EXAMPLES)


class _Complaint(NamedTuple):
    """Where a parser stopped, where it had begun what it was at, and its words for it."""

    lines: list[str]
    at: Span
    opened: Span
    problem: str
    context: str

    @property
    def line(self) -> str:
        return self.lines[self.at.line] if self.at.line < len(self.lines) else ""

    @property
    def character(self) -> str:
        return self.line[self.at.column : self.at.column + 1]

    def suspects(self) -> Iterator[tuple[int, str]]:
        """The lines that may be at fault, without their comments, from the one above the beginning."""
        first = max(0, min(self.opened.line, self.at.line) - 1)
        for number in range(first, min(self.at.line + 1, len(self.lines))):
            yield number, self.lines[number].split(" #")[0]

    def line_above(self) -> int | None:
        """The number of the last line above that holds anything."""
        above = (number for number in range(self.at.line - 1, -1, -1) if self.lines[number].split("#")[0].strip())
        return next(above, None)


def _tab(complaint: _Complaint) -> Told | None:
    if complaint.character == "\t" or "tab character" in complaint.problem:
        return Told(complaint.at, "tab", "a tab cannot indent YAML", "use spaces")
    return None


def _no_space(complaint: _Complaint) -> Told | None:
    for number, line in () if "flow" in complaint.context else complaint.suspects():
        if found := missing_space(line):
            span = Span(number, found.start(1), found.end(1) - found.start(1))
            return Told(span, "space", f"no space after {found[1]!r:.60}", f"write {found[1]} and a space")
    return None


def _dash(complaint: _Complaint) -> Told | None:
    for number, line in complaint.suspects():
        if found := _NO_SPACE_AFTER_DASH.match(line):
            return Told(Span(number, found.start(1)), "space", "no space after '-'", f"write - {found[2]:.60}")
    return None


def _odd(complaint: _Complaint) -> Told | None:
    for number, line in complaint.suspects():
        if odd := odd_character(line):
            column = next(index for index, character in enumerate(line) if odd_character(character))
            return Told(Span(number, column), "character", *odd)
    return None


def _quote(complaint: _Complaint) -> Told | None:
    if "escape" in complaint.problem:
        escape = complaint.line[complaint.at.column :][:2]
        message = f"a backslash between double quotes begins an escape, and {escape} is none"
        return Told(complaint.at, "quote", message, "use single quotes")
    if "quoted scalar" in complaint.context + complaint.problem:
        message = "the quote that is opened here is never closed"
        return Told(complaint.opened, "quote", message, "close it in the same line")
    before = complaint.line[: complaint.at.column]
    if before[-1:] in ("'", '"') and "block" in complaint.context:
        return Told(complaint.at, "quote", "text after the closing quote", "write '' for a ' between single quotes")
    return None


def _bracket(complaint: _Complaint) -> Told | None:
    if "flow sequence" in complaint.context or "flow mapping" in complaint.context:
        bracket = "]" if "sequence" in complaint.context else "}"
        message = f"the bracket that is opened here is not closed by {bracket!r}"
        return Told(
            complaint.opened, "bracket", message, f"close it with {bracket}, and put commas between what stands inside"
        )
    if complaint.character in ("]", "}"):
        return Told(complaint.at, "bracket", f"{complaint.character!r} closes nothing that is open", "remove it")
    return None


def _anchor(complaint: _Complaint) -> Told | None:
    if "undefined alias" in complaint.problem:
        return Told(complaint.at, "alias", "an alias of an anchor that is nowhere", "write the value out")
    if "duplicate anchor" in complaint.context + complaint.problem or complaint.problem == "second occurrence":
        return Told(complaint.at, "alias", "an anchor that stands twice", "write the value out")
    mark = complaint.line[complaint.at.column - 1 : complaint.at.column]
    if "alphabetic or numeric" in complaint.problem and mark in ("*", "&"):
        start = complaint.at._replace(column=complaint.at.column - 1)
        return Told(start, "yaml", f"a value cannot start with {mark!r}", "put it in quotes")
    return None


def _start(complaint: _Complaint) -> Told | None:
    if "cannot start any token" in complaint.problem and complaint.character:
        return Told(complaint.at, "yaml", f"a value cannot start with {complaint.character!r}", "put it in quotes")
    return None


def _colon(complaint: _Complaint) -> Told | None:
    """A colon where none is allowed: a second one in a line, or the first of a line that the one above swallowed."""
    if "could not find expected ':'" in complaint.problem:
        return Told(complaint.opened, "yaml", _NEITHER, "write key: value")
    if "mapping values are not allowed" not in complaint.problem:
        return None
    line, above = complaint.line, complaint.line_above()
    indent = len(line) - len(line.lstrip())
    first = ": " not in line[: complaint.at.column]
    if first and above is not None:
        swallowed_by = complaint.lines[above].split(" #")[0]
        start = len(swallowed_by) - len(swallowed_by.lstrip())
        if ":" not in swallowed_by:
            return Told(Span(above, start, len(swallowed_by.strip())), "yaml", _NEITHER, "write key: value")
        if indent > start:
            return Told(Span(complaint.at.line, indent), "indent", _STRAY, _INDENT)
    if found := _NO_BRACES.match(line):
        message = "several fields in one line want braces"
        return Told(Span(complaint.at.line, found.start(1)), "bracket", message, f"write {{{found[1]:.60}}}")
    return Told(complaint.at, "yaml", "a second ':' in one line", "put the text in quotes, or start a new line")


def _indent(complaint: _Complaint) -> Told | None:
    if "block" in complaint.context:
        return Told(complaint.at, "indent", _STRAY, _INDENT)
    return None


_LOOKS = (_tab, _no_space, _dash, _odd, _quote, _bracket, _anchor, _start, _colon, _indent)
_EXAMPLES = "docs/spec.md has an example of each kind"
_NEITHER = "a line that is neither 'key: value' nor '- item'"
_STRAY = "this does not go on with what stands above it"
_INDENT = "indent it as the lines it belongs to, with spaces"


def _span(mark: Any) -> Span:
    return Span(mark.line, mark.column) if mark else Span(0, 0)


def _forbidden(error: yaml.YAMLError, text: str) -> Told:
    """A character that YAML forbids: NUL and other controls."""
    found = _FORBIDDEN.search(text)
    if found is None:
        return Told(Span(0, 0), "yaml", f"not YAML: {str(error).splitlines()[0]:.100}", "save the file as plain text")
    before = lines_of(text[: found.start()])
    span = Span(len(before) - 1, len(before[-1]))
    return Told(span, "character", f"character U+{ord(found[0]):04X} cannot stand in YAML", "remove it")
