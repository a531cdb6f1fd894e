"""t2tbuild compare: models beside the paper's figures."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.errors import InputError

if TYPE_CHECKING:
    from t2tbuild.cost import Cost
    from t2tbuild.spec import Spec


class Format(StrEnum):
    """How the comparison is printed."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"


class Sort(StrEnum):
    """By what rows are sorted."""

    PAPER = "paper"
    NAME = "name"
    PARAMS = "params"
    MACS = "macs"
    TOP1 = "top1"


def compare(
    specs: Annotated[
        list[str] | None, typer.Argument(metavar="SPEC...", help="Shipped names such as t2t_vit_14, or paths.")
    ] = None,
    table: Annotated[int | None, typer.Option(min=1, max=7, help="All models of this table of the paper.")] = None,
    sort: Annotated[Sort, typer.Option(help="Order of the rows; paper: as the table or the command names them.")] = (
        Sort.PAPER
    ),
    pareto: Annotated[bool, typer.Option("--pareto", help="Mark models that none beats in MACs and top-1.")] = False,
    output: Annotated[Format, typer.Option("--format", help="A table for people, Markdown or CSV.")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Compare models' parameters and MACs with what the paper prints, row by row.

    Example: t2tbuild compare --table 6 --sort macs --pareto
    """
    if not specs and table is None:
        raise InputError("nothing to compare; name specs, or a table of the paper: t2tbuild compare --table 1")

    from t2tbuild.report import comparison
    from t2tbuild.spec import catalog, load_spec

    shipped = catalog.names("specs")
    named: dict[str, Spec] = {}
    for text in specs or ():
        spec = load_spec(text)
        name = text if text in shipped else spec.model.name
        named[text if name in named else name] = spec  # two runs may each have a best.yaml of the same name
    pairs = comparison.rows_of({name: load_spec(name) for name in shipped}, table) if table else []
    pairs += comparison.rows_of(named)
    costs = _count({name: spec for name, spec, _ in pairs})
    rows = [comparison.Comparison(name, costs[name].params, costs[name].macs, row) for name, _, row in pairs]
    rows = comparison.ordered(rows, sort.value)
    title = f"Table {table} of the paper" if table and not specs else "beside the paper"
    if as_json:
        print_json(comparison.as_records(rows, pareto=pareto))
    elif output is Format.CSV:
        sys.stdout.write(comparison.as_csv(rows, pareto=pareto))
    elif output is Format.MARKDOWN:
        sys.stdout.write(comparison.as_markdown(rows, title=title, pareto=pareto))
    else:
        stdout().print(comparison.as_table(rows, title=title, pareto=pareto))


def _count(specs: dict[str, Spec]) -> dict[str, Cost]:
    """The cost of each: ours in closed form, timm's by fvcore, which takes a second each."""
    from t2tbuild.cost import predict_cost
    from t2tbuild.spec import ModelSpec

    foreign = [name for name, spec in specs.items() if not isinstance(spec.model, ModelSpec)]
    costs = {name: predict_cost(spec.model) for name, spec in specs.items() if name not in foreign}
    for number, name in enumerate(foreign, 1):
        stderr().print(f"counting {name} ({number} of {len(foreign)} models of timm)")

        from t2tbuild.cost.counter import count_model

        costs[name] = count_model(specs[name].model)
    return costs
