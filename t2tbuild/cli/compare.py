"""t2tbuild compare: print models next to the paper's figures."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.options import Json, complete_spec_name
from t2tbuild.cli.spec import group_overrides, open_spec
from t2tbuild.errors import InputError

if TYPE_CHECKING:
    from t2tbuild.cost import Cost
    from t2tbuild.report.comparison import Comparison
    from t2tbuild.spec import Spec


class Output(StrEnum):
    """Output formats of the comparison."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"


class Sort(StrEnum):
    """Sort keys of the rows; the cheapest or the most accurate model comes first."""

    PAPER = "paper"
    NAME = "name"
    PARAMS = "params"
    MACS = "macs"
    TOP1 = "top1"

    def key(self, row: Comparison) -> str | float:
        """Return the sort key of a row; rows without the figure come last."""
        match self:
            case Sort.PAPER:
                return 0
            case Sort.NAME:
                return row.title
            case Sort.PARAMS:
                return row.cost.params if row.cost else float("inf")
            case Sort.MACS:
                return row.cost.macs if row.cost else float("inf")
            case Sort.TOP1:
                return -(row.paper.top1 or 0)


def compare(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPEC...",
            help="Shipped names such as t2t_vit_14, paths or runs, each with its KEY=VALUE.",
            autocompletion=complete_spec_name,
        ),
    ] = None,
    table: Annotated[int | None, typer.Option(min=1, max=7, help="All models of this table of the paper.")] = None,
    sort: Annotated[Sort, typer.Option(help="Order of the rows; paper: the order of the table or the command.")] = (
        Sort.PAPER
    ),
    pareto: Annotated[bool, typer.Option("--pareto", help="Mark the Pareto front of MACs and top-1.")] = False,
    output: Annotated[Output | None, typer.Option("--format", help="table (the default), markdown or csv.")] = None,
    as_json: Json = False,
) -> None:
    """Compare parameters and MACs of models with the figures of the paper.

    Example: t2tbuild compare --table 6 --sort macs --pareto
    """
    if not specs and table is None:
        raise InputError("nothing to compare; name specs, or a table of the paper: t2tbuild compare --table 1")
    if as_json and output is not None:
        raise InputError(f"--json and --format {output} request two output formats; keep one of them")

    from t2tbuild.accuracy.predictor import predict_accuracy
    from t2tbuild.report import comparison
    from t2tbuild.spec import catalog, load_spec
    from t2tbuild.spec.root import PaperRow

    shipped = catalog.names("specs")
    triples = comparison.rows_of_table({name: load_spec(name) for name in shipped}, table) if table else []
    for text, changes in group_overrides(specs or ()):
        spec = open_spec(text, changes).spec
        name = text if text in shipped else spec.model.name
        name = " ".join([name, *(one.rpartition(".")[2] for one in changes)])
        taken = name in {other for other, _, _ in triples}
        # rows of the requested table first
        first, *_ = sorted(spec.paper, key=lambda row: row.table != table) or [PaperRow()]
        triples.append((text if taken else name, spec, first))
    costs = _count([(name, spec) for name, spec, _ in triples])
    rows = [
        comparison.Comparison(name, cost, row, accuracy=predict_accuracy(spec.model) if spec else None)
        for (name, spec, row), cost in zip(triples, costs, strict=True)
    ]
    rows = sorted(comparison.mark_front(rows) if pareto else rows, key=sort.key)
    title = f"Table {table} of the paper" if table and not specs else "compared with the paper"
    if as_json:
        print_json(comparison.as_records(rows))
    elif output is Output.CSV:
        sys.stdout.write(comparison.as_csv(rows))
    elif output is Output.MARKDOWN:
        sys.stdout.write(comparison.as_markdown(rows, title=title))
    else:
        stdout().print(comparison.as_table(rows, title=title))


def _count(specs: list[tuple[str, Spec | None]]) -> list[Cost | None]:
    """Return the cost of each spec, in closed form; fvcore counts timm models, which takes about a second each."""
    from t2tbuild.cost.predict import try_predict_cost
    from t2tbuild.spec.model import TimmModel

    timm_names = [name for name, spec in specs if spec and isinstance(spec.model, TimmModel)]
    costs: list[Cost | None] = []
    for name, spec in specs:
        cost = try_predict_cost(spec.model) if spec else None
        if spec is not None and cost is None:  # a timm model, or the node of an extension without a symbolic forward
            from t2tbuild.cost.counter import count_model

            if name in timm_names:
                stderr().print(f"counting {name} ({timm_names.index(name) + 1} of {len(timm_names)} timm models)")
            cost = count_model(spec.model)
        costs.append(cost)
    return costs
