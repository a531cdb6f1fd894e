"""Where output goes: the result to stdout, progress and remarks to stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 110  # columns where no terminal says otherwise

_wanted = {"json": False}


def want_json(wanted: bool) -> bool:
    """Remember that this process was asked for JSON, so that mistakes come as JSON too."""
    _wanted["json"] = wanted
    return wanted


def json_wanted() -> bool:
    """Whether this process was asked for JSON."""
    return _wanted["json"]


def stdout() -> Console:
    """The console for results."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, markup=False, emoji=False)


def stderr() -> Console:
    """The console for progress."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else PLAIN_WIDTH
    return Console(stderr=True, width=width, highlight=False, markup=False, emoji=False)


def print_json(data: Any) -> None:
    """One JSON value on stdout."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def minutes(seconds: float) -> str:
    """A length of time for people: 4m 32s."""
    whole = round(seconds)
    return f"{whole // 60}m {whole % 60:02}s" if whole >= 60 else f"{whole}s"
