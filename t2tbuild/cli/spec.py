"""Reading what a command is given: the spec with its overrides; warnings are shown and the work goes on."""

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


def open_spec(spec: str, overrides: Sequence[str] | None = None) -> Document[Spec]:
    """The document of a model or training spec; its warnings go to stderr."""
    from t2tbuild.spec.load import read_spec

    document = read_spec(spec, overrides or ())
    warn(document.warnings)
    return document


def open_search_spec(spec: str, overrides: Sequence[str] | None = None) -> Document[SearchSpec]:
    """The document of a search spec; its warnings go to stderr."""
    from t2tbuild.spec.load import read_search_spec

    document = read_search_spec(spec, overrides or ())
    warn(document.warnings)
    return document


def is_override(argument: str) -> bool:
    """Whether an argument that may be a spec is a key=value instead."""
    return "=" in argument and not exists(Path(argument))


def grouped(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Several specs, each with the key=value overrides that stand after it."""
    groups: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if groups and is_override(argument):
            groups[-1][1].append(argument)
        else:
            groups.append((argument, []))
    return groups


def warn(warnings: Sequence[Diagnostic]) -> None:
    """Show warnings on stderr, where there are any."""
    if warnings:
        from t2tbuild.cli.diagnostics import print_diagnostics

        print_diagnostics(stderr(), warnings)
