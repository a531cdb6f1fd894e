"""Picture: what models cost on paper against what they take in time."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from t2tbuild.bench.benchmark import Bench, Measurement
from t2tbuild.report.figure import BLUE, GREEN, GREY, new_figure

WIDE = 4  # largest by smallest value beyond which an axis is logarithmic
LEADER = {"arrowstyle": "-", "linewidth": 0.5, "color": GREY, "shrinkA": 0, "shrinkB": 3}
PLACES = [(7, 5), (7, -13), (-7, 5), (-7, -13), (0, 14), (0, -22), (14, 18), (14, -26), (-14, 18), (-14, -26)]  # points


def plot_latency(bench: Bench, path: Path, *, title: str) -> None:
    """Milliseconds an image against GMACs, with whiskers from p5 to p95 and the front of `fastest_for_macs`.

    The file's suffix says what it is: .png, .svg or .pdf.
    """
    figure = new_figure(8, 5)
    axes = figure.subplots()
    rows, batch = bench.measurements, bench.setup.batch_size
    macs = [one.macs / 1e9 for one in rows]
    times = [one.speed.median * 1000 / batch for one in rows]
    below = [(one.speed.median - one.speed.p5) * 1000 / batch for one in rows]
    above = [(one.speed.p95 - one.speed.median) * 1000 / batch for one in rows]
    axes.errorbar(macs, times, yerr=[below, above], fmt="o", color=BLUE, capsize=3, label="median, p5 to p95", zorder=2)
    front = fastest_for_macs(rows)
    axes.plot(
        [one.macs / 1e9 for one in front],
        [one.speed.median * 1000 / batch for one in front],
        color=GREEN,
        linewidth=1,
        label="Pareto front: none does as many MACs in less time",
        zorder=1,
    )
    for values, axis, scale in ((macs, axes.xaxis, axes.set_xscale), (times, axes.yaxis, axes.set_yscale)):
        if max(values) > WIDE * min(values):
            scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)
    axes.set(xlabel="GMACs an image", ylabel=f"{'training, ' * bench.setup.training}ms an image")
    figure.suptitle("Latency against cost", x=0.02, ha="left")
    axes.set_title(title, fontsize=8, loc="left")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _label(figure, axes, [one.name for one in rows], list(zip(macs, times, strict=True)))
    figure.savefig(path)


def fastest_for_macs(rows: Sequence[Measurement]) -> list[Measurement]:
    """Those that no other one beats in time with as many multiply-adds or more; by rising MACs.

    With no accuracy at hand, MACs stand for what a model can learn: more of them in less time is better.
    """
    front: list[Measurement] = []
    for row in sorted(rows, key=lambda row: (-row.macs, row.speed.median)):
        if not front or row.speed.median < front[-1].speed.median:
            front.append(row)
    return front[::-1]


def _label(figure: Figure, axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]]) -> None:
    """Write each name beside its point, where it covers no other name and no point, if there is such a place."""
    figure.draw_without_rendering()  # places are known only after the layout
    dots = [axes.transData.transform(point) for point in points]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in dots]
    legend = axes.get_legend()
    taken += [legend.get_window_extent()] if legend else []
    for name, point in zip(names, points, strict=True):
        text = axes.annotate(name, point, PLACES[0], textcoords="offset points", fontsize=8)
        text.set_in_layout(False)
        for (right, up), last in zip(PLACES, itertools.chain([False] * (len(PLACES) - 1), [True]), strict=True):
            text.set_position((right, up))
            text.set_horizontalalignment("left" if right > 0 else "right" if right < 0 else "center")
            box = text.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if last or (inside and not box.count_overlaps(taken)):
                break
        taken.append(text.get_window_extent())
        line = axes.annotate("", point, text.get_position(), textcoords="offset points", arrowprops=LEADER)
        line.set_in_layout(False)
