"""Print diagnostics: place, rule, source line with a caret, and what to write instead; or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from t2tbuild.errors import Diagnostic, InputError, SpecError, tally

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MAX_LINE_WIDTH = 100  # columns of a source line to show around the caret
_COLOURS = {"error": "bold red", "warning": "bold yellow"}
_JSON_FIELDS = ("file", "line", "column", "path", "rule", "message", "hint", "severity")


def print_diagnostics(console: Console, diagnostics: Sequence[Diagnostic]) -> None:
    """Print each diagnostic with its source line and a caret, then the number of diagnostics."""
    for diagnostic in diagnostics:
        console.print(_render(diagnostic), soft_wrap=True)
    console.print(_escape(tally(diagnostics)), soft_wrap=True)


def diagnostics_to_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Convert diagnostics to plain data."""
    return [{field: getattr(diagnostic, field) for field in _JSON_FIELDS} for diagnostic in diagnostics]


def to_diagnostics(error: InputError) -> tuple[Diagnostic, ...]:
    """Return the diagnostics of an error; an error without a place becomes one diagnostic."""
    if isinstance(error, SpecError):
        return error.diagnostics
    return (Diagnostic("", 0, 0, "", "input", str(error)),)


def _render(diagnostic: Diagnostic) -> Text:
    from rich.text import Text

    place = f"{diagnostic.file}:{diagnostic.line}:{diagnostic.column}" if diagnostic.line else diagnostic.file
    colour = _COLOURS[diagnostic.severity]
    text = Text()
    text.append(f"{_escape(place)}: ", style="bold")
    text.append(f"{diagnostic.severity}: ", style=colour)
    text.append(_escape(diagnostic.message))
    hint = _escape(diagnostic.hint)
    if not diagnostic.text:
        return text.append(f"\n    {hint}", style="cyan").append("\n") if hint else text.append("\n")
    number = str(diagnostic.line or "").rjust(5)
    before, span, after = _split_at_span(diagnostic.text, diagnostic.column - 1, diagnostic.length)
    text.append(f"\n{number} | ", style="dim").append(before).append(span, style=colour).append(after)
    blank = " " * Text(before).cell_len
    caret = "^" * max(1, Text(span).cell_len) if diagnostic.column else ""
    text.append(f"\n{' ' * len(number)} | ", style="dim").append(blank).append(caret, style=colour)
    return text.append(f"{' ' if caret and hint else ''}{hint}", style="cyan").append("\n")


def _split_at_span(line: str, start: int, length: int) -> tuple[str, str, str]:
    """Split a line into the text before, in and after a span, shortened to fit a screen."""
    start = max(0, start)
    first = max(0, start - MAX_LINE_WIDTH // 2) if len(line) > MAX_LINE_WIDTH else 0
    last = min(len(line), first + MAX_LINE_WIDTH)
    end = min(start + length, last)
    return (
        ("..." if first else "") + _escape(line[first:start]),
        _escape(line[start:end]),
        _escape(line[end:last]) + ("..." if last < len(line) else ""),
    )


def _escape(text: str) -> str:
    """Escape characters that would move the cursor or colour the terminal."""
    return "".join(
        character if character.isprintable() else " " if character in "\t\xa0" else ascii(character)[1:-1]
        for character in text
    )
