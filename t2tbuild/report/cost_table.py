"""The tables of a model's cost: its parts, and the memory and device time of a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from t2tbuild.accuracy.predictor import Accuracy, predict_accuracy
from t2tbuild.cost.memory import Memory
from t2tbuild.cost.model import CONVENTION, Cost
from t2tbuild.cost.roofline import Roofline
from t2tbuild.dtype import Precision
from t2tbuild.report.table import Column, ColumnTable, FactTable
from t2tbuild.spec.root import Spec
from t2tbuild.spec.units import short_count
from t2tbuild.symbolic.leaf import PartCost


@dataclass(frozen=True)
class BatchCost:
    """The estimated memory of a batch and, if requested, the largest batches that fit a device and the roofline.

    `largest` is (device memory in bytes, most images in inference, most images in a training step); a number of images
    is None if not even one fits.
    """

    batch_size: int
    precision: Precision
    memory: Memory
    largest: tuple[int, int | None, int | None] | None = None
    roofline: Roofline | None = None


def cost_table(spec: Spec, cost: Cost, batch_size: int = 1) -> RenderableType:
    """Return the parts of a model with their costs, the totals beside the paper's figures, and the MACs convention.

    MACs are those of the whole batch, except in the totals, which are for one image.
    """
    title = f"{spec.model.name}, image {spec.model.image}" + (f", batch of {batch_size}" if batch_size > 1 else "")
    macs = f"MACs of {batch_size}" if batch_size > 1 else "MACs"
    columns = (
        Column("part", footer="total"),
        Column("grid", 5, right=True),
        Column("tokens", 4, right=True),
        Column("channels", 6, right=True),
        Column("params", 2, right=True, footer=short_count(cost.params)),
        Column(macs, 1, right=True, footer=short_count(cost.macs * batch_size)),
        Column("share", 3, right=True, footer="100.0%"),
    )
    table = ColumnTable(columns, title=title)
    for level, part in _rows(cost.parts):
        table.add_row(
            "  " * level + part.name,
            str(part.grid or ""),
            _number(part.tokens),
            _number(part.channels),
            short_count(part.params) if part.params else "-",
            short_count(part.macs * batch_size) if part.macs else "-",
            f"{part.macs / cost.macs:.1%}",
            style="dim" if level else None,
        )
    return Group(table, _totals(spec, cost), Text(f"{CONVENTION}.", style="dim"))


def batch_cost_table(batch: BatchCost) -> RenderableType:
    """Return the memory of a batch and, where a device is described, its largest batches and its roofline."""
    rows, memory = FactTable(frozenset({2})), batch.memory
    batch_name = f"batch of {batch.batch_size}" if batch.batch_size > 1 else "one image"
    weights = f"{format_bytes(memory.parameters)} parameters"
    rows.add_row(f"memory, {batch_name}", "inference", format_bytes(memory.inference), f"at the peak; {weights}")
    state = f"{format_bytes(memory.gradients + memory.optimizer)} gradients and AdamW's moments"
    kept = f"{format_bytes(memory.activations)} activations for backward"
    training = f"at the peak; {state}, {kept}, not all at once"
    rows.add_row(str(batch.precision), "training", format_bytes(memory.training), training)
    if batch.largest:
        size, *counts = batch.largest
        for what, count in zip(("inference", "training"), counts, strict=True):
            images = "not one image" if count is None else f"{count:,} images"
            rows.add_row(f"largest batch in {format_bytes(size)}", what, images, "")
    if batch.roofline:
        line = batch.roofline
        rate = f"{line.intensity:.0f} FLOPs per byte, {line.memory_bound:.0%} of the time bound by memory bandwidth"
        rows.add_row("roofline", "inference", f"{line.seconds * 1000:.3g} ms", rate)
    return rows


def format_bytes(size: int) -> str:
    """Format a number of bytes with a decimal unit.

    >>> format_bytes(86_182_200), format_bytes(5_517_286_216), format_bytes(512)
    ('86.2 MB', '5.52 GB', '512 B')
    """
    text = short_count(size)
    return f"{text[:-1]} {text[-1].replace('K', 'k')}B" if text[-1].isalpha() else f"{text} B"


def _rows(parts: Sequence[PartCost], level: int = 0) -> Iterator[tuple[int, PartCost]]:
    for part in parts:
        yield level, part
        yield from _rows(part.parts, level + 1)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _totals(spec: Spec, cost: Cost) -> RenderableType:
    totals = FactTable(frozenset({1, 2}))
    printed = spec.paper[0] if spec.paper else None
    table = ("released code" if printed.table is None else f"paper, Table {printed.table}") if printed else ""
    totals.add_row("", "counted", table)
    rows = [
        ("parameters", cost.params, printed.params if printed else None),
        ("trainable", cost.trainable_params, None),
        ("MACs per image", cost.macs, printed.macs if printed else None),
    ]
    for name, counted, paper in rows:
        totals.add_row(name, f"{counted:,}", short_count(paper) if paper else "")
    accuracy = predict_accuracy(spec.model)
    if accuracy.top1 is not None or (printed and printed.top1 is not None):
        predicted = f"predicted {accuracy.top1:.1f}%" if accuracy.top1 is not None else ""
        totals.add_row("ImageNet top-1", predicted, f"{printed.top1}%" if printed and printed.top1 else "")
    return totals


def accuracy_lines(accuracy: Accuracy) -> list[str]:
    """Return a predicted accuracy in words: its interval and the nearest published models, or why there is none."""
    if accuracy.top1 is None:
        return [f"ImageNet top-1 is not predicted: {accuracy.reason}"]
    nearest = ", ".join(f"{one.name} {one.top1:g}%" for one in accuracy.nearest)
    interval = f"{accuracy.low:.1f} to {accuracy.high:.1f}% in 90% of trainings"
    return [f"predicted from published trainings: {interval} with the paper's recipe; nearest: {nearest}"]
