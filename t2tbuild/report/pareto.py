"""Plot of accuracy against MACs, with the Pareto front."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from t2tbuild.nas.record import BASE, Record, State
from t2tbuild.nas.result import SearchResult
from t2tbuild.report.figure import BLUE, GREEN, GREY, ORANGE, new_figure
from t2tbuild.spec.units import plural, short_count


def plot_pareto(result: SearchResult, path: Path) -> None:
    """Plot the ranking objective of a search's candidates against MACs into a file."""
    draw_pareto(result).savefig(path)


def draw_pareto(result: SearchResult) -> Figure:
    """Return a figure of the ranking objective against MACs, with base, winner, Pareto front and budget."""
    figure = new_figure(8, 5)
    axes = figure.subplots()
    trained = [record for record in result.records if record.rungs]
    base = [record for record in result.reference_runs if record.number == BASE and record.rungs and not record.full]
    for state, marker, label in ((State.COMPLETED, "o", "completed"), (State.PRUNED, "v", "pruned at a lower rung")):
        some = [record for record in trained if record.state is state and record.number != BASE]
        axes.scatter(
            *_points(some, result), c=BLUE if state is State.COMPLETED else GREY, marker=marker, label=label, zorder=2
        )
    front = sorted(result.front, key=lambda record: record.macs or 0)
    axes.step(
        *_points(front, result),
        where="post",
        color=GREEN,
        linewidth=1,
        label="Pareto front of completed candidates",
        zorder=1,
    )
    if base:
        label = f"base, {_name(result.base)}, {plural(len(base), 'seed')}"
        axes.scatter(*_points(base, result), c=ORANGE, marker="s", s=60, label=label, zorder=3)
    x, y = _points([result.winner], result)
    axes.scatter(x, y, facecolors="none", edgecolors="black", s=220, label=f"winner, {_name(result.winner)}", zorder=4)
    if result.budget.macs is not None and result.budget.macs.max is not None:
        limit = result.budget.macs.max
        axes.axvline(limit / 1e9, color="black", linestyle=":", label=f"budget {short_count(limit)}")
    axes.set(xlabel="GMACs at full size", ylabel=_label(result))
    figure.suptitle("Accuracy against MACs", x=0.02, ha="left")
    axes.set_title(f"proxy training: {result.trained_as}; one seed per candidate", fontsize=8, loc="left")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _label(result: SearchResult) -> str:
    """Return the name of the ranking objective."""
    if result.ranking.uses_prediction:
        return "ImageNet top-1 (%), lower end of the predicted 90% interval"
    metric = result.spec.search.proxy.metric
    return "proxy validation accuracy" if metric == "accuracy" else "proxy validation loss, as -ln(loss)"


def _points(records: Sequence[Record], result: SearchResult) -> tuple[list[float], list[float]]:
    return [(record.macs or 0) / 1e9 for record in records], [result.ranking.value(record) for record in records]


def _name(record: Record) -> str:
    return record.model.name if record.model else record.number
