"""Models beside what the paper prints of them: one row each, as a table, Markdown, CSV or JSON."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from t2tbuild.accuracy.predictor import Accuracy
from t2tbuild.cost import Cost
from t2tbuild.spec.root import PaperRow, Spec
from t2tbuild.spec.units import short_count

# Rows of the paper that no spec can stand for: shown, so that a table is whole, without figures of ours.
LACKING = {
    "resnet50_ghost": PaperRow.model_validate(
        {"table": 6, "row": 6, "params": "19.9M", "macs": "3.2G", "top1": 76.2, "note": "timm has no ghosted ResNet"}
    )
}


@dataclass(frozen=True)
class Comparison:
    """A model's cost, None where we have no such model, and the row of the paper that it is held against.

    `front` says whether no other row of the comparison beats it; None where nobody asked. `accuracy` is the predicted
    ImageNet top-1; None where we have no such model.
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
        """By how much our parameters differ from the paper's, as a fraction of the paper's."""
        return self.cost.params / self.paper.params - 1 if self.cost and self.paper.params else None

    @property
    def macs_off(self) -> float | None:
        """By how much our MACs differ from the paper's, as a fraction of the paper's."""
        return self.cost.macs / self.paper.macs - 1 if self.cost and self.paper.macs else None


def rows_of_table(specs: Mapping[str, Spec], table: int) -> list[tuple[str, Spec | None, PaperRow]]:
    """The rows of a table of the paper in their order there, each with the name and the spec of its model."""
    found: list[tuple[str, Spec | None, PaperRow]] = [
        (name, spec, row) for name, spec in specs.items() for row in spec.paper if row.table == table
    ]
    found += [(name, None, row) for name, row in LACKING.items() if row.table == table]
    return sorted(found, key=lambda triple: triple[2].row or 0)


def mark_front(rows: Sequence[Comparison]) -> list[Comparison]:
    """The rows, each with whether no other has at most its MACs and at least its printed top-1, one of them better."""
    points = {index: (row.cost.macs, -row.paper.top1) for index, row in enumerate(rows) if row.cost and row.paper.top1}

    def beaten(index: int) -> bool:
        macs, error = points[index]
        return any(other != (macs, error) and other[0] <= macs and other[1] <= error for other in points.values())

    return [replace(row, front=index in points and not beaten(index)) for index, row in enumerate(rows)]


def as_table(rows: Sequence[Comparison], *, title: str) -> Table:
    """The comparison for a terminal; notes stand beneath."""
    table = Table(title=title, title_justify="left", caption="\n".join(_notes(rows)), caption_justify="left")
    columns = _columns(rows)
    for column in columns:
        table.add_column(column.title, justify="left" if column.left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(column.text(row) for column in columns))
    return table


def as_markdown(rows: Sequence[Comparison], *, title: str) -> str:
    """The comparison as a Markdown table; notes stand beneath."""
    columns = _columns(rows)

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [
        f"**{title}**\n",
        line(column.title for column in columns),
        line("---" if column.left else "---:" for column in columns),
        *(line(column.text(row) for column in columns) for row in rows),
        "",
        *(f"{note}  " for note in _notes(rows)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def as_records(rows: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The comparison as plain data, for JSON and CSV: counts as integers, differences in percent."""

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
    """The comparison as CSV with a header."""
    records = as_records(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


@dataclass(frozen=True)
class _Column:
    title: str
    text: Callable[[Comparison], str]
    left: bool = False


def _columns(rows: Sequence[Comparison]) -> list[_Column]:
    """The columns; those that no row fills are left out."""
    notes = _remarks(rows)
    always = [
        _Column("model", lambda row: row.title, left=True),
        _Column("params", lambda row: short_count(row.cost.params) if row.cost else ""),
        _Column("paper", lambda row: _printed(row.paper.params, 1e6, "M")),
        _Column("off", lambda row: _off(row.params_off)),
        _Column("MACs", lambda row: short_count(row.cost.macs) if row.cost else ""),
        _Column("paper", lambda row: _printed(row.paper.macs, 1e9, "G")),
        _Column("off", lambda row: _off(row.macs_off)),
        _Column("top-1", lambda row: _printed(row.paper.top1, 1, "")),
    ]
    sometimes = [
        _Column("predicted", _predicted),
        _Column("CIFAR-10", lambda row: _printed(row.paper.cifar10, 1, "")),
        _Column("CIFAR-100", lambda row: _printed(row.paper.cifar100, 1, "")),
        _Column("front", lambda row: "*" if row.front else "", left=True),
        _Column("note", lambda row: str(notes.index(row.paper.note) + 1) if row.paper.note else ""),
    ]
    return always + [column for column in sometimes if any(column.text(row) for row in rows)]


def _predicted(row: Comparison) -> str:
    """The predicted top-1 with the ends of its interval."""
    accuracy = row.accuracy
    if accuracy is None or accuracy.top1 is None:
        return ""
    return f"{accuracy.top1:.1f} ({accuracy.low:.1f}-{accuracy.high:.1f})"


def _printed(value: float | None, unit: float, suffix: str) -> str:
    """A figure of the paper as it prints them all, with one decimal."""
    return "" if value is None else f"{value / unit:.1f}{suffix}"


def _off(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f}%"


def _remarks(rows: Sequence[Comparison]) -> list[str]:
    return list(dict.fromkeys(row.paper.note for row in rows if row.paper.note))


def _notes(rows: Sequence[Comparison]) -> list[str]:
    """What stands beneath the rows."""
    return [
        "params and MACs: ours as counted, the paper's as printed. top-1: ImageNet, as printed; none is claimed by us. "
        "predicted: from published trainings, these among them, with the 90% interval.",
        *(f"{number} {remark}" for number, remark in enumerate(_remarks(rows), 1)),
    ]
