"""Diagnose YAML syntax errors: the place of the mistake, the rule, and what to write instead."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from t2tbuild.errors import Diagnostic
from t2tbuild.spec.diagnostics.scalars import find_lookalike

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


class SyntaxProblem(NamedTuple):
    """A syntax error: its place, the name of the rule, the message, and what to write instead."""

    span: Span
    rule: str
    message: str
    hint: str = ""


def diagnose_encoding(raw: bytes, error: UnicodeDecodeError, file: str) -> Diagnostic:
    """Return the diagnostic of a file that is not UTF-8, at its first invalid byte."""
    line = raw.count(b"\n", 0, error.start) + 1
    start = raw.rfind(b"\n", 0, error.start) + 1
    column = len(raw[start : error.start].decode("utf-8-sig", "replace")) + 1
    message, text = "UTF-16 text", ""
    if raw[:2] not in _UTF_16:
        message = f"not UTF-8 text: byte 0x{raw[error.start]:02x}"
        text = raw[start:].split(b"\n", 1)[0].decode("utf-8", "replace")
    return Diagnostic(file, line, column, "", "encoding", message, "save the file as UTF-8", text=text)


def split_lines(text: str) -> list[str]:
    """Split a text into lines as YAML counts them."""
    return _LINE_BREAK.split(text)


def missing_space(line: str) -> re.Match[str] | None:
    """Match the key of `depth:14`, which YAML reads as text because a space is missing."""
    return _NO_SPACE.match(line)


def diagnose_syntax(error: yaml.YAMLError, text: str) -> SyntaxProblem:
    """Return the mistake behind an error of PyYAML or libyaml."""
    lines = split_lines(text)
    if not isinstance(error, yaml.MarkedYAMLError):
        return _forbidden(error, text)
    at = _span(error.problem_mark or error.context_mark)
    opened = _span(error.context_mark) if error.context_mark else at
    parser_error = _ParserError(lines, at, opened, error.problem or "", error.context or "")
    for check in _CHECKS:
        if problem := check(parser_error):
            return problem
    return SyntaxProblem(at, "yaml", f"not YAML: {parser_error.problem or parser_error.context}", _EXAMPLES)


class _ParserError(NamedTuple):
    """Where the parser stopped, where the current construct begins, and the parser's message."""

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
        """Yield the lines that may hold the mistake, without comments, from the one above the construct."""
        first = max(0, min(self.opened.line, self.at.line) - 1)
        for number in range(first, min(self.at.line + 1, len(self.lines))):
            yield number, self.lines[number].split(" #")[0]

    def line_above(self) -> int | None:
        """Return the number of the last line above that is not empty."""
        above = (number for number in range(self.at.line - 1, -1, -1) if self.lines[number].split("#")[0].strip())
        return next(above, None)


def _tab(error: _ParserError) -> SyntaxProblem | None:
    if error.character == "\t" or "tab character" in error.problem:
        return SyntaxProblem(error.at, "tab", "a tab cannot indent YAML", "use spaces")
    return None


def _no_space(error: _ParserError) -> SyntaxProblem | None:
    for number, line in () if "flow" in error.context else error.suspects():
        if found := missing_space(line):
            span = Span(number, found.start(1), found.end(1) - found.start(1))
            return SyntaxProblem(span, "space", f"no space after {found[1]!r:.60}", f"write {found[1]} and a space")
    return None


def _dash(error: _ParserError) -> SyntaxProblem | None:
    for number, line in error.suspects():
        if found := _NO_SPACE_AFTER_DASH.match(line):
            return SyntaxProblem(Span(number, found.start(1)), "space", "no space after '-'", f"write - {found[2]:.60}")
    return None


def _lookalike(error: _ParserError) -> SyntaxProblem | None:
    for number, line in error.suspects():
        if message_and_hint := find_lookalike(line):
            column = next(index for index, character in enumerate(line) if find_lookalike(character))
            return SyntaxProblem(Span(number, column), "character", *message_and_hint)
    return None


def _quote(error: _ParserError) -> SyntaxProblem | None:
    if "escape" in error.problem:
        escape = error.line[error.at.column :][:2]
        message = f"a backslash between double quotes begins an escape, and {escape} is not one"
        return SyntaxProblem(error.at, "quote", message, "use single quotes")
    if "quoted scalar" in error.context + error.problem:
        message = "the quote that opens here is never closed"
        return SyntaxProblem(error.opened, "quote", message, "close it in the same line")
    before = error.line[: error.at.column]
    if before[-1:] in ("'", '"') and "block" in error.context:
        return SyntaxProblem(
            error.at, "quote", "text after the closing quote", "write '' for a ' between single quotes"
        )
    return None


def _bracket(error: _ParserError) -> SyntaxProblem | None:
    if "flow sequence" in error.context or "flow mapping" in error.context:
        bracket = "]" if "sequence" in error.context else "}"
        message = f"the bracket that opens here is not closed by {bracket!r}"
        return SyntaxProblem(
            error.opened, "bracket", message, f"close it with {bracket}, and put commas between the items"
        )
    if error.character in ("]", "}"):
        return SyntaxProblem(error.at, "bracket", f"{error.character!r} closes no open bracket", "remove it")
    return None


def _anchor(error: _ParserError) -> SyntaxProblem | None:
    if "undefined alias" in error.problem:
        return SyntaxProblem(error.at, "alias", "an alias of an anchor that is not defined", "write the value out")
    if "duplicate anchor" in error.context + error.problem or error.problem == "second occurrence":
        return SyntaxProblem(error.at, "alias", "an anchor that is defined twice", "write the value out")
    mark = error.line[error.at.column - 1 : error.at.column]
    if "alphabetic or numeric" in error.problem and mark in ("*", "&"):
        start = error.at._replace(column=error.at.column - 1)
        return SyntaxProblem(start, "yaml", f"a value cannot start with {mark!r}", "put it in quotes")
    return None


def _start(error: _ParserError) -> SyntaxProblem | None:
    if "cannot start any token" in error.problem and error.character:
        return SyntaxProblem(error.at, "yaml", f"a value cannot start with {error.character!r}", "put it in quotes")
    return None


def _colon(error: _ParserError) -> SyntaxProblem | None:
    """A colon that is not allowed: a second one in a line, or one in a line that continues the text above."""
    if "could not find expected ':'" in error.problem:
        return SyntaxProblem(error.opened, "yaml", _NO_KEY_OR_ITEM, "write key: value")
    if "mapping values are not allowed" not in error.problem:
        return None
    line, above = error.line, error.line_above()
    indent = len(line) - len(line.lstrip())
    first = ": " not in line[: error.at.column]
    if first and above is not None:
        line_before = error.lines[above].split(" #")[0]
        start = len(line_before) - len(line_before.lstrip())
        if ":" not in line_before:
            return SyntaxProblem(
                Span(above, start, len(line_before.strip())), "yaml", _NO_KEY_OR_ITEM, "write key: value"
            )
        if indent > start:
            return SyntaxProblem(Span(error.at.line, indent), "indent", _UNCONNECTED_LINE, _INDENT)
    if found := _NO_BRACES.match(line):
        message = "several fields in one line need braces"
        return SyntaxProblem(Span(error.at.line, found.start(1)), "bracket", message, f"write {{{found[1]:.60}}}")
    return SyntaxProblem(error.at, "yaml", "a second ':' in one line", "put the text in quotes, or start a new line")


def _indent(error: _ParserError) -> SyntaxProblem | None:
    if "block" in error.context:
        return SyntaxProblem(error.at, "indent", _UNCONNECTED_LINE, _INDENT)
    return None


_CHECKS = (_tab, _no_space, _dash, _lookalike, _quote, _bracket, _anchor, _start, _colon, _indent)
_EXAMPLES = "docs/spec.md has an example of each kind"
_NO_KEY_OR_ITEM = "a line that is neither 'key: value' nor '- item'"
_UNCONNECTED_LINE = "this line does not continue the lines above it"
_INDENT = "indent it with spaces, as the lines that it belongs to"


def _span(mark: Any) -> Span:
    return Span(mark.line, mark.column) if mark else Span(0, 0)


def _forbidden(error: yaml.YAMLError, text: str) -> SyntaxProblem:
    """Return the problem of a character that YAML forbids, such as NUL."""
    found = _FORBIDDEN.search(text)
    if found is None:
        return SyntaxProblem(
            Span(0, 0), "yaml", f"not YAML: {str(error).splitlines()[0]:.100}", "save the file as plain text"
        )
    before = split_lines(text[: found.start()])
    span = Span(len(before) - 1, len(before[-1]))
    return SyntaxProblem(span, "character", f"character U+{ord(found[0]):04X} is not allowed in YAML", "remove it")
