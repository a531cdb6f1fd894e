"""How mistakes are shown: the place, the rule, the line with a caret, what to write instead; or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from t2tbuild.errors import Diagnostic, InputError, SpecError, tally

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

SHOWN_WIDTH = 100  # columns of a source line that are shown around the caret
_COLOURS = {"error": "bold red", "warning": "bold yellow"}
_JSON_FIELDS = ("file", "line", "column", "path", "rule", "message", "hint", "severity")


def print_diagnostics(console: Console, diagnostics: Sequence[Diagnostic]) -> None:
    """Print each with its line and a caret, and how many there are."""
    for diagnostic in diagnostics:
        console.print(_render(diagnostic), soft_wrap=True)
    console.print(_visible(tally(diagnostics)), soft_wrap=True)


def as_records(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """The diagnostics for machines."""
    return [{field: getattr(diagnostic, field) for field in _JSON_FIELDS} for diagnostic in diagnostics]


def diagnostics_of(error: InputError) -> tuple[Diagnostic, ...]:
    """What an error of the input is about: its places, or one mistake without a place."""
    if isinstance(error, SpecError):
        return error.diagnostics
    return (Diagnostic("", 0, 0, "", "input", str(error)),)


def _render(diagnostic: Diagnostic) -> Text:
    from rich.text import Text

    place = f"{diagnostic.file}:{diagnostic.line}:{diagnostic.column}" if diagnostic.line else diagnostic.file
    colour = _COLOURS[diagnostic.severity]
    text = Text()
    text.append(f"{_visible(place)}: ", style="bold")
    text.append(f"{diagnostic.severity}: ", style=colour)
    text.append(_visible(diagnostic.message))
    hint = _visible(diagnostic.hint)
    if not diagnostic.text:
        return text.append(f"\n    {hint}", style="cyan").append("\n") if hint else text.append("\n")
    number = str(diagnostic.line or "").rjust(5)
    before, meant, after = _cut(diagnostic.text, diagnostic.column - 1, diagnostic.length)
    text.append(f"\n{number} | ", style="dim").append(before).append(meant, style=colour).append(after)
    blank = " " * Text(before).cell_len
    caret = "^" * max(1, Text(meant).cell_len) if diagnostic.column else ""
    text.append(f"\n{' ' * len(number)} | ", style="dim").append(blank).append(caret, style=colour)
    return text.append(f"{' ' if caret and hint else ''}{hint}", style="cyan").append("\n")


def _cut(line: str, start: int, length: int) -> tuple[str, str, str]:
    """What stands before, in and after the span of a line, cut so that it fits a screen."""
    start = max(0, start)
    first = max(0, start - SHOWN_WIDTH // 2) if len(line) > SHOWN_WIDTH else 0
    last = min(len(line), first + SHOWN_WIDTH)
    end = min(start + length, last)
    return (
        ("..." if first else "") + _visible(line[first:start]),
        _visible(line[start:end]),
        _visible(line[end:last]) + ("..." if last < len(line) else ""),
    )


def _visible(text: str) -> str:
    """Text without what would move the cursor or colour the terminal: a file may hold anything."""
    return "".join(
        character if character.isprintable() else " " if character in "\t\xa0" else ascii(character)[1:-1]
        for character in text
    )
