"""Models beside what the paper prints of them: one row each, as a table, Markdown, CSV or JSON."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Table

from t2tbuild.spec.tree import PaperRow, Spec
from t2tbuild.spec.units import format_count, short_count

Order = Literal["paper", "name", "params", "macs", "top1"]

# Rows of the paper that no spec stands for, so that a table says what it lacks.
LACKING = {6: "ResNet50-Ghost (19.9M, 3.2G, 76.2%): timm has no ghosted ResNet"}


@dataclass(frozen=True)
class Comparison:
    """A model's counted parameters and MACs, and the row of the paper that they are held against."""

    name: str
    params: int
    macs: int
    paper: PaperRow

    @property
    def title(self) -> str:
        return f"{self.name} ({self.paper.variant})" if self.paper.variant else self.name

    @property
    def params_off(self) -> float | None:
        """By how much our parameters differ from the paper's, as a fraction of the paper's."""
        return self.params / self.paper.params - 1 if self.paper.params else None

    @property
    def macs_off(self) -> float | None:
        """By how much our MACs differ from the paper's, as a fraction of the paper's."""
        return self.macs / self.paper.macs - 1 if self.paper.macs else None


def rows_of(specs: Mapping[str, Spec], table: int | None = None) -> list[tuple[str, Spec, PaperRow]]:
    """Each named spec with its rows of the paper's `table`, in their order there; without a table, with its first."""
    if table is None:
        return [(name, spec, spec.paper[0] if spec.paper else PaperRow()) for name, spec in specs.items()]
    found = [(name, spec, row) for name, spec in specs.items() for row in spec.paper if row.table == table]
    return sorted(found, key=lambda triple: triple[2].row or 0)


def ordered(rows: Sequence[Comparison], order: Order) -> list[Comparison]:
    """The rows sorted: the cheapest or the most accurate first, or as the paper has them."""
    keys: dict[Order, Callable[[Comparison], Any]] = {
        "paper": lambda _row: 0,
        "name": lambda row: row.title,
        "params": lambda row: row.params,
        "macs": lambda row: row.macs,
        "top1": lambda row: -(row.paper.top1 or 0),
    }
    return sorted(rows, key=keys[order])


def on_front(row: Comparison, rows: Sequence[Comparison]) -> bool:
    """Whether no other row has at most its MACs and at least its printed top-1, and one of the two better."""
    top1 = row.paper.top1
    if top1 is None:
        return False
    return not any(
        other.macs <= row.macs and other.paper.top1 >= top1 and (other.macs < row.macs or other.paper.top1 > top1)
        for other in rows
        if other.paper.top1 is not None
    )


def as_table(rows: Sequence[Comparison], *, title: str, pareto: bool) -> Table:
    """The comparison for a terminal; notes stand beneath."""
    table = Table(title=title, title_justify="left", caption=_caption(rows), caption_justify="left")
    for name, align in _columns(rows, pareto):
        table.add_column(name, justify="left" if align == "left" else "right", no_wrap=True)
    for cells in _cells(rows, pareto):
        table.add_row(*cells)
    return table


def as_markdown(rows: Sequence[Comparison], *, title: str, pareto: bool) -> str:
    """The comparison as a Markdown table; notes stand beneath."""
    columns = _columns(rows, pareto)
    lines = [
        f"**{title}**\n",
        "| " + " | ".join(name for name, _ in columns) + " |",
        "|" + "|".join("---" if align == "left" else "---:" for _, align in columns) + "|",
        *("| " + " | ".join(cells) + " |" for cells in _cells(rows, pareto)),
        "",
        *(f"{line}  " for line in _caption(rows).splitlines()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def as_records(rows: Sequence[Comparison], *, pareto: bool) -> list[dict[str, Any]]:
    """The comparison as plain data, for JSON and CSV: counts as integers, differences in percent."""

    def percent(value: float | None) -> float | None:
        return None if value is None else round(100 * value, 2)

    return [
        {
            "model": row.name,
            "variant": row.paper.variant,
            "table": row.paper.table,
            "params": row.params,
            "paper_params": row.paper.params,
            "params_off_percent": percent(row.params_off),
            "macs": row.macs,
            "paper_macs": row.paper.macs,
            "macs_off_percent": percent(row.macs_off),
            "paper_top1": row.paper.top1,
            "paper_cifar10": row.paper.cifar10,
            "paper_cifar100": row.paper.cifar100,
            **({"pareto": on_front(row, rows)} if pareto else {}),
            "note": row.paper.note,
        }
        for row in rows
    ]


def as_csv(rows: Sequence[Comparison], *, pareto: bool) -> str:
    """The comparison as CSV with a header."""
    records = as_records(rows, pareto=pareto)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _columns(rows: Sequence[Comparison], pareto: bool) -> list[tuple[str, str]]:
    names = ["params", "paper", "off", "MACs", "paper", "off", "top-1", *_transfers(rows)]
    marks = [("front", "left")] if pareto else []
    notes = [("note", "right")] if any(row.paper.note for row in rows) else []
    return [("model", "left"), *((name, "right") for name in names), *marks, *notes]


def _transfers(rows: Sequence[Comparison]) -> list[str]:
    held = (("CIFAR-10", "cifar10"), ("CIFAR-100", "cifar100"))
    return [name for name, field in held if any(getattr(row.paper, field) is not None for row in rows)]


def _cells(rows: Sequence[Comparison], pareto: bool) -> list[list[str]]:
    """The text of each row, as the columns want it."""

    def printed(value: int | None) -> str:
        return str(format_count(value)) if value else ""

    def off(value: float | None) -> str:
        return "" if value is None else f"{100 * value:+.1f}%"

    def accuracy(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}"

    notes, transfers = _notes(rows), _transfers(rows)
    told = []
    for row in rows:
        paper = row.paper
        cells = [row.title, short_count(row.params), printed(paper.params), off(row.params_off)]
        cells += [short_count(row.macs), printed(paper.macs), off(row.macs_off), accuracy(paper.top1)]
        cells += [accuracy(paper.cifar10), accuracy(paper.cifar100)] if transfers else []
        cells += ["*" if on_front(row, rows) else ""] if pareto else []
        cells += [str(notes.index(paper.note) + 1) if paper.note else ""] if notes else []
        told.append(cells)
    return told


def _notes(rows: Sequence[Comparison]) -> list[str]:
    return list(dict.fromkeys(row.paper.note for row in rows if row.paper.note))


def _caption(rows: Sequence[Comparison]) -> str:
    tables = {row.paper.table for row in rows}
    lines = [
        "params and MACs: ours as counted, the paper's as printed. top-1: ImageNet, as printed; none is claimed by us.",
        *(f"{number} {note}" for number, note in enumerate(_notes(rows), 1)),
        *(f"not here: {LACKING[table]}" for table in tables if table in LACKING and len(tables) == 1),
    ]
    return "\n".join(lines)
