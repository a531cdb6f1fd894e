"""Read the spec of a command with its overrides, and print warnings about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from t2tbuild.cli.console import stderr
from t2tbuild.errors import Diagnostic
from t2tbuild.files import exists

if TYPE_CHECKING:
    from t2tbuild.spec import SearchSpec, Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.spec.load import AnyOverrides


def open_spec(spec: str, overrides: AnyOverrides | None = None) -> Document[Spec]:
    """Read a model or training spec; its warnings go to stderr."""
    from t2tbuild.spec.load import read_spec

    document = read_spec(spec, overrides or ())
    print_taken(spec)
    print_warnings(document.warnings)
    return document


def print_taken(spec: str) -> None:
    """Print on stderr which file is taken, where a run directory is named in place of a spec."""
    from t2tbuild.spec.catalog import describe_run

    if message := describe_run(spec):
        stderr().print(message, soft_wrap=True)


def open_search_spec(spec: str, overrides: AnyOverrides | None = None) -> Document[SearchSpec]:
    """Read a search spec; its warnings go to stderr."""
    from t2tbuild.spec.load import read_search_spec

    document = read_search_spec(spec, overrides or ())
    print_warnings(document.warnings)
    return document


def is_override(argument: str) -> bool:
    """Return whether an argument is a key=value override, not a spec."""
    return "=" in argument and not exists(Path(argument))


def group_overrides(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Split arguments into specs, each with the key=value overrides that follow it."""
    groups: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if groups and is_override(argument):
            groups[-1][1].append(argument)
        else:
            groups.append((argument, []))
    return groups


def print_warnings(warnings: Sequence[Diagnostic]) -> None:
    """Print warnings on stderr."""
    if warnings:
        from t2tbuild.cli.diagnostics import print_diagnostics

        print_diagnostics(stderr(), warnings)
