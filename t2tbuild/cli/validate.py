"""t2tbuild validate: report every error of every file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stdout
from t2tbuild.cli.options import Json, complete_spec_name
from t2tbuild.cli.spec import group_overrides, print_taken
from t2tbuild.errors import Diagnostic, SpecError

if TYPE_CHECKING:
    from t2tbuild.spec import SearchSpec
    from t2tbuild.spec.document import Document


def validate(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC...",
            help="Shipped names, paths or runs, each with its KEY=VALUE.",
            autocompletion=complete_spec_name,
        ),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
    as_json: Json = False,
) -> None:
    """Check model, training and search specs without running them; all errors are reported at once.

    Example: t2tbuild validate specs/*.yaml search/*.yaml
    """
    from t2tbuild.cli.diagnostics import diagnostics_to_json, print_diagnostics

    groups = [list(diagnose(spec, overrides)) for spec, overrides in group_overrides(specs)]
    found = list(dict.fromkeys(diagnostic for diagnostics in groups for diagnostic in diagnostics))
    if as_json:
        print_json(diagnostics_to_json(found))
    elif found:
        print_diagnostics(stdout(), found)
    else:
        sys.stdout.write(f"{'1 spec is' if len(groups) == 1 else f'all {len(groups)} specs are'} valid\n")
    raise typer.Exit(2 if any(diagnostic.severity == "error" or strict for diagnostic in found) else 0)


def diagnose(spec: str, overrides: list[str]) -> Iterator[Diagnostic]:
    """Yield the warnings of a spec, then its errors."""
    from t2tbuild.spec.load import read_any
    from t2tbuild.spec.root import SearchSpec, Spec
    from t2tbuild.training.resolve import resolve
    from t2tbuild.weights.released import require_released

    try:
        document = read_any(spec, overrides)
        print_taken(spec)
        yield from document.warnings
        if isinstance(document.spec, Spec):
            with document.located_errors():
                require_released(document.spec)
                if document.spec.train:
                    resolve(document.spec)
        if isinstance(document.spec, SearchSpec):
            yield from diagnose_search(document)
    except SpecError as error:
        yield from error.diagnostics


def diagnose_search(document: Document[SearchSpec]) -> Iterator[Diagnostic]:
    """Yield the diagnostics of a search that need its base and the closed form: a budget that no candidate meets."""
    from t2tbuild.nas.plan import plan

    with document.located_errors():
        for warning in plan(document.spec).warnings:
            yield document.warning(warning)
