"""The table and the picture of the formats of a model: accuracy, latency, size and memory of each."""

from pathlib import Path
from typing import Any

from t2tbuild.bench.formats import FormatMeasurement, FormatsResult
from t2tbuild.report.figure import BLUE, GREEN, GREY, ORANGE, new_figure
from t2tbuild.report.table import Column, ColumnTable
from t2tbuild.spec.units import milliseconds, plural, short_count

COLUMNS = (
    Column("format"),
    Column("runtime", 7),
    Column("precision", 6),
    Column("top-1", right=True),
    Column("ms", right=True),
    Column("p95", 3, right=True),
    Column("images/s", 4, right=True),
    Column("ratio", 5, right=True),
    Column("size", 1, right=True),
    Column("memory", 2, right=True),
)


def formats_table(result: FormatsResult, *, title: str) -> ColumnTable:
    """Return the table of a benchmark of files: a row for each in the given order, and a caption on the columns."""
    images = "one image" if result.batch_size == 1 else f"{result.batch_size} images"
    rounds = min(one.speed.rounds for one in result.measurements)
    measured = f"top-1: on {plural(result.images, 'image')}. " if result.images else ""
    inside = "; preprocessing inside is a part of it" if any(one.inside for one in result.measurements) else ""
    caption = (
        f"{measured}ms: time for {images}, median of {rounds} interleaved rounds{inside}. ratio: images/s relative to "
        f"the first. memory: peak of a process that runs the file, above that of the runtime alone."
    )
    table = ColumnTable(COLUMNS, title=title, caption=caption)
    for one in result.measurements:
        table.add_row(
            one.name,
            one.runtime,
            one.precision,
            "" if one.accuracy is None else f"{one.accuracy:.2%}",
            milliseconds(one.speed.median),
            milliseconds(one.speed.p95),
            f"{one.images_per_second:,.1f}",
            f"{result.ratio(one):.2f}",
            f"{short_count(one.size)}B",
            "" if one.memory is None else f"{short_count(one.memory)}B",
        )
    return table


def formats_json(result: FormatsResult) -> dict[str, Any]:
    """Return a benchmark of files as plain data."""
    return {
        "batch_size": result.batch_size,
        "threads": result.threads,
        "images": result.images,
        "formats": [_to_json(one) | {"ratio": result.ratio(one)} for one in result.measurements],
    }


def _to_json(one: FormatMeasurement) -> dict[str, Any]:
    return {
        "name": one.name,
        "runtime": one.runtime,
        "precision": one.precision,
        "preprocessing_inside": one.inside,
        "accuracy": one.accuracy,
        "median_seconds": one.speed.median,
        "p5_seconds": one.speed.p5,
        "p95_seconds": one.speed.p95,
        "rounds": one.speed.rounds,
        "images_per_second": one.images_per_second,
        "size_bytes": one.size,
        "peak_memory_bytes": one.memory,
    }


def plot_formats(result: FormatsResult, path: Path, *, title: str) -> None:
    """Draw a bar of each file for its latency (with p5 to p95), size, memory and accuracy.

    The suffix of the file sets the format: .png, .svg or .pdf.
    """
    rows = result.measurements
    names, places = [one.name for one in rows], range(len(rows))
    panels: list[tuple[str, str, list[float | None]]] = [
        (f"ms, batch {result.batch_size}", BLUE, [1000 * one.speed.median for one in rows]),
        ("size, MB", GREEN, [one.size / 1e6 for one in rows]),
        ("memory, MB", GREY, [None if one.memory is None else one.memory / 1e6 for one in rows]),
    ]
    if result.images:
        panels.append(("top-1, %", ORANGE, [None if one.accuracy is None else 100 * one.accuracy for one in rows]))
    figure = new_figure(2.6 * len(panels) + 1.5, 1.4 + 0.42 * len(rows))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (label, color, values) in zip(axes, panels, strict=True):
        measured = [value or 0.0 for value in values]
        axis.barh(places, measured, color=color, height=0.6)
        reach = measured
        if label.startswith("ms"):
            below = [1000 * (one.speed.median - one.speed.p5) for one in rows]
            above = [1000 * (one.speed.p95 - one.speed.median) for one in rows]
            axis.errorbar(measured, places, xerr=[below, above], fmt="none", color="black", capsize=2, linewidth=1)
            reach = [value + more for value, more in zip(measured, above, strict=True)]
        for place, value, end in zip(places, values, reach, strict=True):
            text = "not measured" if value is None else f"{value:.3g}"
            axis.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axis.set_xlim(0, 1.25 * max(reach) or 1)
        axis.set_xlabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(list(places), names)
    axes[0].invert_yaxis()
    figure.suptitle(title, x=0.02, ha="left", fontsize=10)
    figure.savefig(path)
