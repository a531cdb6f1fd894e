"""The tables of a model's cost: its parts, and what a batch takes of memory and of a device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from t2tbuild.accuracy.predictor import Accuracy, predict_accuracy
from t2tbuild.cost.memory import Memory
from t2tbuild.cost.model import CONVENTION, Cost, PartCost
from t2tbuild.cost.roofline import Roofline
from t2tbuild.dtype import Precision
from t2tbuild.spec.root import Spec
from t2tbuild.spec.units import short_count


@dataclass(frozen=True)
class Load:
    """What a batch takes: its memory by formula, and where they were asked for, the largest batches and the roofline.

    `largest` is the device's memory in bytes with the most images of an inference and of a training step, None where
    not one fits.
    """

    batch_size: int
    precision: Precision
    memory: Memory
    largest: tuple[int, int | None, int | None] | None = None
    roofline: Roofline | None = None


def cost_table(spec: Spec, cost: Cost, batch_size: int = 1) -> RenderableType:
    """One row a part, those that it consists of beneath it; then totals beside the paper's figures, and the convention.

    MACs are of the whole batch, but for the totals beside the paper's, which are of one image.
    """
    title = f"{spec.model.name}, image {spec.model.image}" + (f", batch of {batch_size}" if batch_size > 1 else "")
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("part", footer="total")
    for name in ("grid", "tokens", "channels"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("params", justify="right", footer=short_count(cost.params), no_wrap=True)
    macs = f"MACs of {batch_size}" if batch_size > 1 else "MACs"
    table.add_column(macs, justify="right", footer=short_count(cost.macs * batch_size), no_wrap=True)
    table.add_column("share", justify="right", footer="100.0%", no_wrap=True)
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


def load_table(load: Load) -> RenderableType:
    """What a batch takes of memory, and where a device was described, what that device can do at best."""
    rows, memory = Table.grid(padding=(0, 2)), load.memory
    of = f"batch of {load.batch_size}" if load.batch_size > 1 else "one image"
    weights = f"{in_bytes(memory.parameters)} parameters"
    rows.add_row(f"memory, {of}", "inference", _right(in_bytes(memory.inference)), f"at the peak; {weights}")
    state = f"{in_bytes(memory.gradients + memory.optimizer)} gradients and AdamW's moments"
    kept = f"{in_bytes(memory.activations)} activations for backward"
    rows.add_row(
        load.precision, "training", _right(in_bytes(memory.training)), f"at the peak; {state}, {kept}, not all at once"
    )
    if load.largest:
        size, *counts = load.largest
        for what, count in zip(("inference", "training"), counts, strict=True):
            message = "not one image" if count is None else f"{count:,} images"
            rows.add_row(f"largest batch in {in_bytes(size)}", what, _right(message), "")
    if load.roofline:
        line = load.roofline
        rate = f"{line.intensity:.0f} FLOPs a byte, {line.memory_bound:.0%} of the time waiting for memory"
        rows.add_row("roofline", "inference", _right(f"{line.seconds * 1000:.3g} ms"), rate)
    return rows


def in_bytes(size: int) -> str:
    """Bytes in words, in units of 1000.

    >>> in_bytes(86_182_200), in_bytes(5_517_286_216), in_bytes(512)
    ('86.2 MB', '5.52 GB', '512 B')
    """
    text = short_count(size)
    return f"{text[:-1]} {text[-1].replace('K', 'k')}B" if text[-1].isalpha() else f"{text} B"


def _rows(parts: Sequence[PartCost], level: int = 0) -> Iterator[tuple[int, PartCost]]:
    for part in parts:
        yield level, part
        yield from _rows(part.parts, level + 1)


def _right(text: str) -> Text:
    return Text(text, justify="right")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _totals(spec: Spec, cost: Cost) -> RenderableType:
    totals = Table.grid(padding=(0, 2))
    printed = spec.paper[0] if spec.paper else None
    table = ("released code" if printed.table is None else f"paper, Table {printed.table}") if printed else ""
    totals.add_row("", _right("counted"), _right(table))
    rows = [
        ("parameters", cost.params, printed.params if printed else None),
        ("trainable", cost.trainable_params, None),
        ("MACs an image", cost.macs, printed.macs if printed else None),
    ]
    for name, counted, paper in rows:
        totals.add_row(name, _right(f"{counted:,}"), _right(short_count(paper) if paper else ""))
    accuracy = predict_accuracy(spec.model)
    if accuracy.top1 is not None or (printed and printed.top1 is not None):
        predicted = f"predicted {accuracy.top1:.1f}%" if accuracy.top1 is not None else ""
        totals.add_row(
            "ImageNet top-1", _right(predicted), _right(f"{printed.top1}%" if printed and printed.top1 else "")
        )
    return totals


def accuracy_lines(accuracy: Accuracy) -> list[str]:
    """A prediction in words: its interval and the nearest published models, or why there is none."""
    if accuracy.top1 is None:
        return [f"ImageNet top-1 is not predicted: {accuracy.reason}"]
    nearest = ", ".join(f"{one.name} {one.top1:g}%" for one in accuracy.nearest)
    interval = f"{accuracy.low:.1f} to {accuracy.high:.1f}% in 90% of trainings"
    return [f"predicted from published trainings: {interval} by the paper's recipe; nearest: {nearest}"]
