"""Models compared with the paper's figures: one row each, as a table, Markdown, CSV or JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from t2tbuild.accuracy.predictor import Accuracy
from t2tbuild.cost import Cost
from t2tbuild.files import csv_text
from t2tbuild.nas.pareto import pareto_front
from t2tbuild.report.table import Column, ColumnTable
from t2tbuild.spec.root import PaperRow, Spec
from t2tbuild.spec.units import short_count

# Rows of the paper for which there is no spec. They are listed without counts, so that each table is complete.
WITHOUT_SPEC = {
    "resnet50_ghost": PaperRow.model_validate(
        {"table": 6, "row": 6, "params": "19.9M", "macs": "3.2G", "top1": 76.2, "note": "timm has no ghosted ResNet"}
    )
}


@dataclass(frozen=True)
class Comparison:
    """A model's cost and the row of the paper that it is compared with.

    `cost` and `accuracy`, the predicted ImageNet top-1, are None for a model that has no spec. `front` says whether the
    model is on the Pareto front of the comparison; None if that was not requested.
    """

    name: str
    cost: Cost | None
    paper: PaperRow
    front: bool | None = None
    accuracy: Accuracy | None = None

    @property
    def title(self) -> str:
        return f"{self.name} ({self.paper.variant})" if self.paper.variant else self.name

    @property
    def params_off(self) -> float | None:
        """Relative difference between the counted parameters and the paper's."""
        return self.cost.params / self.paper.params - 1 if self.cost and self.paper.params else None

    @property
    def macs_off(self) -> float | None:
        """Relative difference between the counted MACs and the paper's."""
        return self.cost.macs / self.paper.macs - 1 if self.cost and self.paper.macs else None


def rows_of_table(specs: Mapping[str, Spec], table: int) -> list[tuple[str, Spec | None, PaperRow]]:
    """Return the rows of a table of the paper in the paper's order, each with the name and the spec of its model."""
    found: list[tuple[str, Spec | None, PaperRow]] = [
        (name, spec, row) for name, spec in specs.items() for row in spec.paper if row.table == table
    ]
    found += [(name, None, row) for name, row in WITHOUT_SPEC.items() if row.table == table]
    return sorted(found, key=lambda triple: triple[2].row or 0)


def mark_front(rows: Sequence[Comparison]) -> list[Comparison]:
    """Return the rows with `front` set: True if no other row dominates them in MACs and in the printed top-1."""
    points = {index: (row.cost.macs, -row.paper.top1) for index, row in enumerate(rows) if row.cost and row.paper.top1}
    places = list(points)
    front = {places[index] for index in pareto_front(list(points.values()))}
    return [replace(row, front=index in front) for index, row in enumerate(rows)]


def as_table(rows: Sequence[Comparison], *, title: str) -> ColumnTable:
    """Return the comparison as a table for a terminal, with its notes as the caption."""
    columns = _columns(rows)
    table = ColumnTable([one.column for one in columns], title=title, caption="\n".join(_notes(rows)))
    for row in rows:
        table.add_row(*(one.text(row) for one in columns))
    return table


def as_markdown(rows: Sequence[Comparison], *, title: str) -> str:
    """Return the comparison as a Markdown table, followed by its notes."""
    columns = _columns(rows)

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [
        f"**{title}**\n",
        line(one.column.title for one in columns),
        line("---:" if one.column.right else "---" for one in columns),
        *(line(one.text(row) for one in columns) for row in rows),
        "",
        *(f"{note}  " for note in _notes(rows)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def as_records(rows: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return the comparison as plain data, for JSON and CSV: counts as integers, differences in percent."""

    def percent(value: float | None) -> float | None:
        return None if value is None else round(100 * value, 2)

    return [
        {
            "model": row.name,
            "variant": row.paper.variant,
            "table": row.paper.table,
            "params": row.cost and row.cost.params,
            "paper_params": row.paper.params,
            "params_off_percent": percent(row.params_off),
            "macs": row.cost and row.cost.macs,
            "paper_macs": row.paper.macs,
            "macs_off_percent": percent(row.macs_off),
            "paper_top1": row.paper.top1,
            **{f"predicted_{name}": _rounded(row.accuracy, name) for name in ("top1", "low", "high")},
            "paper_cifar10": row.paper.cifar10,
            "paper_cifar100": row.paper.cifar100,
            **({} if row.front is None else {"front": row.front}),
            "note": row.paper.note,
        }
        for row in rows
    ]


def _rounded(accuracy: Accuracy | None, name: str) -> float | None:
    value: float | None = getattr(accuracy, name, None)
    return None if value is None else round(value, 2)


def as_csv(rows: Sequence[Comparison]) -> str:
    """Return the comparison as CSV with a header."""
    records = as_records(rows)
    return csv_text(list(records[0]), records, end="\n")


class _ComparisonColumn(NamedTuple):
    column: Column
    text: Callable[[Comparison], str]


def _columns(rows: Sequence[Comparison]) -> list[_ComparisonColumn]:
    """Return the columns; optional ones only where a row has a value in them."""
    notes = _distinct_notes(rows)

    def right(title: str, priority: int, text: Callable[[Comparison], str], name: str = "") -> _ComparisonColumn:
        return _ComparisonColumn(Column(title, priority, right=True, name=name), text)

    always = [
        _ComparisonColumn(Column("model"), lambda row: row.title),
        right("params", 3, lambda row: short_count(row.cost.params) if row.cost else ""),
        right("paper", 7, lambda row: _printed(row.paper.params, 1e6, "M"), "params in the paper"),
        right("off", 5, lambda row: _off(row.params_off), "difference of params"),
        right("MACs", 1, lambda row: short_count(row.cost.macs) if row.cost else ""),
        right("paper", 6, lambda row: _printed(row.paper.macs, 1e9, "G"), "MACs in the paper"),
        right("off", 4, lambda row: _off(row.macs_off), "difference of MACs"),
        right("top-1", 2, lambda row: _printed(row.paper.top1, 1, "")),
    ]
    optional = [
        right("predicted", 6, _predicted, "predicted top-1"),
        right("CIFAR-10", 8, lambda row: _printed(row.paper.cifar10, 1, "")),
        right("CIFAR-100", 8, lambda row: _printed(row.paper.cifar100, 1, "")),
        _ComparisonColumn(Column("front", 2), lambda row: "*" if row.front else ""),
        right("note", 3, lambda row: str(notes.index(row.paper.note) + 1) if row.paper.note else ""),
    ]
    return always + [one for one in optional if any(one.text(row) for row in rows)]


def _predicted(row: Comparison) -> str:
    """Return the predicted top-1 with its interval."""
    accuracy = row.accuracy
    if accuracy is None or accuracy.top1 is None:
        return ""
    return f"{accuracy.top1:.1f} ({accuracy.low:.1f}-{accuracy.high:.1f})"


def _printed(value: float | None, unit: float, suffix: str) -> str:
    """Return a figure of the paper with one decimal, as printed."""
    return "" if value is None else f"{value / unit:.1f}{suffix}"


def _off(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f}%"


def _distinct_notes(rows: Sequence[Comparison]) -> list[str]:
    return list(dict.fromkeys(row.paper.note for row in rows if row.paper.note))


def _notes(rows: Sequence[Comparison]) -> list[str]:
    """Return the lines beneath the table: how its figures were obtained, then the numbered notes of the rows."""
    return [
        "params and MACs: counted, then as printed in the paper, then the difference. top-1: ImageNet, as printed in "
        "the paper; not measured here. predicted: from published trainings, including these, with the 90% interval.",
        *(f"{number} {note}" for number, note in enumerate(_distinct_notes(rows), 1)),
    ]
