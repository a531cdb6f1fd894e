"""Plot of the parameters and MACs of each part of a model."""

from pathlib import Path

from t2tbuild.cost import Cost
from t2tbuild.report.figure import BLUE, ORANGE, new_figure
from t2tbuild.spec.units import short_count


def plot_cost(cost: Cost, path: Path, *, title: str) -> None:
    """Draw the share of each part in the MACs and in the parameters as bars, in forward order.

    The suffix of the file sets the format: .png, .svg or .pdf.
    """
    parts = cost.parts
    figure = new_figure(9, 1.4 + 0.32 * len(parts))
    left, right = figure.subplots(1, 2, sharey=True)
    sides = (
        (left, "MACs", BLUE, [part.macs for part in parts], cost.macs),
        (right, "parameters", ORANGE, [part.params for part in parts], cost.params),
    )
    rows = range(len(parts))
    for axes, what, colour, counts, total in sides:
        shares = [100 * count / total for count in counts]
        axes.barh(rows, shares, color=colour)
        for row, (count, share) in enumerate(zip(counts, shares, strict=True)):
            text = short_count(count) if count else "-"
            axes.annotate(text, (share, row), (3, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set(xlabel=f"% of {short_count(total)} {what}", xlim=(0, 1.18 * max(*shares, 1)))
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    left.set_yticks(rows, [part.name for part in parts], fontsize=8)
    left.invert_yaxis()
    figure.suptitle(title, x=0.02, ha="left")
    figure.savefig(path)
