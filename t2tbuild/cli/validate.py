"""t2tbuild validate: every mistake of every file, at its place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stdout
from t2tbuild.cli.options import Json, complete_name
from t2tbuild.cli.spec import grouped
from t2tbuild.errors import Diagnostic, SpecError

if TYPE_CHECKING:
    from t2tbuild.spec import SearchSpec
    from t2tbuild.spec.document import Document


def validate(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC...", help="Shipped names or paths, each with its KEY=VALUE.", autocompletion=complete_name
        ),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings for errors.")] = False,
    as_json: Json = False,
) -> None:
    """Check spec files without running anything: model, training and search specs, all mistakes at once.

    Example: t2tbuild validate specs/*.yaml search/*.yaml
    """
    from t2tbuild.cli.diagnostics import as_records, print_diagnostics

    message = [list(diagnose(spec, overrides)) for spec, overrides in grouped(specs)]
    found = list(dict.fromkeys(diagnostic for diagnostics in message for diagnostic in diagnostics))
    if as_json:
        print_json(as_records(found))
    elif found:
        print_diagnostics(stdout(), found)
    else:
        sys.stdout.write(f"{'1 spec is' if len(message) == 1 else f'all {len(message)} specs are'} sound\n")
    raise typer.Exit(2 if any(diagnostic.severity == "error" or strict for diagnostic in found) else 0)


def diagnose(spec: str, overrides: list[str]) -> Iterator[Diagnostic]:
    """Everything there is to say of one spec: its warnings, then what is wrong with it."""
    from t2tbuild.spec.load import read_any
    from t2tbuild.spec.root import SearchSpec, Spec
    from t2tbuild.training.resolve import resolve

    try:
        document = read_any(spec, overrides)
        yield from document.warnings
        if isinstance(document.spec, Spec) and document.spec.train:
            with document.placing():
                resolve(document.spec)
        if isinstance(document.spec, SearchSpec):
            yield from diagnose_search(document)
    except SpecError as error:
        yield from error.diagnostics


def diagnose_search(document: Document[SearchSpec]) -> Iterator[Diagnostic]:
    """What only the base and the closed form can tell of a search: unknown fields, a budget that nothing meets."""
    from t2tbuild.nas.plan import plan

    with document.placing():
        for warning in plan(document.spec).warnings:
            yield document.warning(warning)
