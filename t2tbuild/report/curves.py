"""Plot of the learning curves of a training run."""

from pathlib import Path

from matplotlib.figure import Figure

from t2tbuild.report.figure import BLUE, ORANGE, new_figure
from t2tbuild.training.reports import complete_epochs
from t2tbuild.training.run_directory import read_json_lines


def plot_curves(run: Path) -> None:
    """Draw the metrics.jsonl of a training run into curves.png in the same directory."""
    draw_curves(run).savefig(run / "curves.png")


def draw_curves(run: Path) -> Figure:
    """Return a figure of losses and validation accuracy of a training run by epoch."""
    epochs = complete_epochs(read_json_lines(run / "metrics.jsonl"))
    figure = new_figure(9, 3.5)
    losses, accuracy = figure.subplots(1, 2)
    x = [record["epoch"] for record in epochs]
    losses.plot(x, [record["train_loss"] for record in epochs], color=BLUE, label="training (with label smoothing)")
    losses.plot(x, [record["validation_loss"] for record in epochs], color=ORANGE, label="validation")
    losses.set(xlabel="epoch", ylabel="cross-entropy (nats)")
    losses.legend(fontsize=8)
    accuracy.plot(x, [100 * record["validation_accuracy"] for record in epochs], color=ORANGE)
    accuracy.set(xlabel="epoch", ylabel="validation accuracy (%)")
    for axes in (losses, accuracy):
        axes.grid(alpha=0.3)
    return figure
