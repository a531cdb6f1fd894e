"""Plot of measured latency against MACs."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from t2tbuild.bench.benchmark import BenchResult, Measurement
from t2tbuild.nas.pareto import pareto_front
from t2tbuild.report.figure import BLUE, GREEN, GREY, new_figure

LOG_SCALE_RATIO = 4  # an axis is logarithmic if its largest value is more than this times the smallest
LEADER = {"arrowstyle": "-", "linewidth": 0.5, "color": GREY, "shrinkA": 0, "shrinkB": 3}
LABEL_OFFSETS = [
    (7, 5),
    (7, -13),
    (-7, 5),
    (-7, -13),
    (0, 14),
    (0, -22),
    (14, 18),
    (14, -26),
    (-14, 18),
    (-14, -26),
]
"""Positions of a label relative to its point, in points, in order of preference."""


def plot_latency(bench: BenchResult, path: Path, *, title: str) -> None:
    """Draw milliseconds per image against GMACs, with error bars from p5 to p95, and the front of `latency_front`.

    The suffix of the file sets the format: .png, .svg or .pdf.
    """
    figure = new_figure(8, 5)
    axes = figure.subplots()
    rows, batch = bench.measurements, bench.config.batch_size
    macs = [one.macs / 1e9 for one in rows]
    times = [one.speed.median * 1000 / batch for one in rows]
    below = [(one.speed.median - one.speed.p5) * 1000 / batch for one in rows]
    above = [(one.speed.p95 - one.speed.median) * 1000 / batch for one in rows]
    axes.errorbar(macs, times, yerr=[below, above], fmt="o", color=BLUE, capsize=3, label="median, p5 to p95", zorder=2)
    front = latency_front(rows)
    axes.plot(
        [one.macs / 1e9 for one in front],
        [one.speed.median * 1000 / batch for one in front],
        color=GREEN,
        linewidth=1,
        label="Pareto front: no other has as many MACs and less latency",
        zorder=1,
    )
    for values, axis, scale in ((macs, axes.xaxis, axes.set_xscale), (times, axes.yaxis, axes.set_yscale)):
        if max(values) > LOG_SCALE_RATIO * min(values):
            scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)
    axes.set(xlabel="GMACs per image", ylabel=f"{'training, ' * bench.config.training}ms per image")
    figure.suptitle("Latency against MACs", x=0.02, ha="left")
    axes.set_title(title, fontsize=8, loc="left")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _label_points(figure, axes, [one.name for one in rows], list(zip(macs, times, strict=True)))
    figure.savefig(path)


def latency_front(rows: Sequence[Measurement]) -> list[Measurement]:
    """Return the Pareto front of models by increasing MACs: no other has at least as many MACs and less latency.

    Without accuracies, MACs are a measure of capacity: more MACs in less time are better.
    """
    front = [rows[index] for index in pareto_front([(-row.macs, row.speed.median) for row in rows])]
    return sorted(front, key=lambda row: row.macs)


def _label_points(figure: Figure, axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]]) -> None:
    """Write each name beside its point, at the first offset where it covers no other name and no point."""
    figure.draw_without_rendering()  # positions are known only after the layout
    dots = [axes.transData.transform(point) for point in points]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in dots]
    legend = axes.get_legend()
    taken += [legend.get_window_extent()] if legend else []
    last_offset = LABEL_OFFSETS[-1]
    for name, point in zip(names, points, strict=True):
        text = axes.annotate(name, point, LABEL_OFFSETS[0], textcoords="offset points", fontsize=8)
        text.set_in_layout(False)
        for right, up in LABEL_OFFSETS:
            text.set_position((right, up))
            text.set_horizontalalignment("left" if right > 0 else "right" if right < 0 else "center")
            box = text.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if (right, up) == last_offset or (inside and not box.count_overlaps(taken)):
                break
        taken.append(text.get_window_extent())
        line = axes.annotate("", point, text.get_position(), textcoords="offset points", arrowprops=LEADER)
        line.set_in_layout(False)
