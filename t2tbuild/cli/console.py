"""Output of the command line: results go to stdout, progress and warnings to stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from t2tbuild.files import escape_controls

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 10_000
"""Columns of output that goes to a file or a pipe: as many as any table needs, so that nothing is cut."""


@dataclass
class OutputFormat:
    """The output format of a command. Typer's context holds it, so that errors are printed in the same format."""

    as_json: bool = False


def stdout() -> Console:
    """Return the console for results."""
    return _console(sys.stdout)


def stderr() -> Console:
    """Return the console for progress and warnings."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    """Return a console that writes control characters, of names for example, as Python does: an escape as x1b."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class SafeConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else escape_controls(text), style, control)

    is_stderr = stream is sys.stderr  # by its name: rich then follows a stream that is replaced
    return SafeConsole(stderr=is_stderr, width=_width(stream), highlight=False, markup=False, emoji=False)


def _width(stream: TextIO) -> int | None:
    """Return the width for output to a stream; None leaves it to rich, which asks COLUMNS, then the terminal."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and not int(columns):  # rich would write nothing
        return shutil.get_terminal_size().columns if stream.isatty() else PIPED_WIDTH
    return None if stream.isatty() or columns.isdigit() else PIPED_WIDTH


def print_json(data: Any) -> None:
    """Print a value as JSON on stdout."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def format_duration(seconds: float) -> str:
    """Format a duration in seconds, for example as 4m 32s."""
    whole = round(seconds)
    return f"{whole // 60}m {whole % 60:02}s" if whole >= 60 else f"{whole}s"
