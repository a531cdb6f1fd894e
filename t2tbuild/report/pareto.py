"""Picture: accuracy against cost."""

from collections.abc import Sequence
from pathlib import Path

from t2tbuild.report.figure import BLUE, GREEN, GREY, ORANGE, new_figure
from t2tbuild.search.record import BASE, Record, State
from t2tbuild.search.run import SearchResult
from t2tbuild.spec.units import short_count


def plot_pareto(result: SearchResult, path: Path) -> None:
    """Proxy accuracy at the highest rung against MACs at full size: base, winner, front and budget marked."""
    figure = new_figure(8, 5)
    axes = figure.subplots()
    trained = [record for record in result.records if record.rungs]
    for state, marker, label in ((State.TOP, "o", "top rung"), (State.STOPPED, "v", "stopped at a lower rung")):
        some = [record for record in trained if record.state is state and record.number != BASE]
        axes.scatter(*_points(some), c=BLUE if state is State.TOP else GREY, marker=marker, label=label, zorder=2)
    front = pareto_front(trained)
    axes.step(*_points(front), where="post", color=GREEN, linewidth=1, label="Pareto front of the top rung", zorder=1)
    base = [record for record in trained if record.number == BASE]
    if base:
        axes.scatter(*_points(base), c=ORANGE, marker="s", s=90, label=f"base, {_name(result.base)}", zorder=3)
    x, y = _points([result.winner])
    axes.scatter(x, y, facecolors="none", edgecolors="black", s=220, label=f"winner, {_name(result.winner)}", zorder=4)
    if result.budget.macs is not None:
        axes.axvline(
            result.budget.macs / 1e9, color="black", linestyle=":", label=f"budget {short_count(result.budget.macs)}"
        )
    axes.set(xlabel="GMACs at full size", ylabel="proxy validation accuracy")
    figure.suptitle("Accuracy against cost", x=0.02, ha="left")
    axes.set_title(f"trained: {result.trained_as}; one seed each", fontsize=8, loc="left")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)


def pareto_front(records: Sequence[Record]) -> list[Record]:
    """Of the records at the top rung, those that no cheaper or equal one beats or equals; by rising MACs."""
    front: list[Record] = []
    top = [record for record in records if record.state is State.TOP]
    for record in sorted(top, key=lambda record: (record.macs or 0, -(record.accuracy or 0))):
        if not front or (record.accuracy or 0) > (front[-1].accuracy or 0):
            front.append(record)
    return front


def _points(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    return [(record.macs or 0) / 1e9 for record in records], [record.accuracy or 0 for record in records]


def _name(record: Record) -> str:
    return record.model.name if record.model else record.number
