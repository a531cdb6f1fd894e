"""Plot of the learning curves of a training run."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from t2tbuild.report.figure import BLUE, GREEN, GREY, ORANGE, new_figure
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.training.reports import complete_epochs
from t2tbuild.training.run_directory import read_json_lines

FEW_EPOCHS = 30
"""Number of epochs up to which each is marked; a curve of one epoch would have no line."""

MANY_CLASSES = 10
"""Number of classes above which top-5 accuracy has something to show."""


def plot_curves(run: Path) -> None:
    """Draw the metrics.jsonl of a training run into curves.png in the same directory."""
    draw_curves(run).savefig(run / "curves.png")


def draw_curves(run: Path) -> Figure:
    """Return a figure of a training run by epoch: training and validation loss, and accuracy with the best epoch."""
    records = read_json_lines(run / "metrics.jsonl")
    epochs = complete_epochs(records)
    spec = load_spec(run / "spec.yaml")
    figure = new_figure(9, 3.7)
    losses, accuracy = figure.subplots(1, 2)
    x = [record["epoch"] for record in epochs]
    marker = "o" if len(epochs) <= FEW_EPOCHS else ""

    def draw(axes: Axes, name: str, colour: str, label: str, scale: float = 1) -> None:
        axes.plot(x, [scale * record[name] for record in epochs], marker, ls="-", ms=3, color=colour, label=label)

    draw(losses, "train_loss", BLUE, f"training{_describe_training_loss(spec.train or TrainSpec())}")
    draw(losses, "validation_loss", ORANGE, "validation")
    losses.set(ylabel="cross-entropy (nats)")
    if spec.model.num_classes > MANY_CLASSES:
        draw(accuracy, "validation_top5", GREY, "validation, top-5", 100)
    draw(accuracy, "validation_accuracy", ORANGE, "validation, top-1", 100)
    accuracy.set(ylabel="accuracy (%)")
    if epochs:
        best = max(epochs, key=lambda record: record["validation_accuracy"])
        top1 = 100 * best["validation_accuracy"]
        text = f"best: {top1:.1f}% after epoch {best['epoch']}"
        accuracy.plot([best["epoch"]], [top1], "o", ms=8, mfc="none", color=ORANGE, label=text)
    results = [record["result"] for record in records if record.get("event") == "result"]
    test = results[-1].get("test_accuracy") if results else None
    if test is not None:
        accuracy.axhline(100 * test, color=GREEN, ls=":", label=f"test, top-1: {100 * test:.1f}%")
    for axes in (losses, accuracy):
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    if epochs:
        figure.suptitle(f"{spec.model.name}, epoch {epochs[-1]['epoch']} of {epochs[-1]['epochs']}", fontsize=9)
    return figure


def _describe_training_loss(recipe: TrainSpec) -> str:
    """Name the parts of a recipe that make the loss of training differ from that of validation; empty without any."""
    parts = {
        "mixup": recipe.mixup is not None,
        "label smoothing": bool(recipe.label_smoothing),
        "distillation": recipe.distill is not None,
    }
    used = [name for name, is_used in parts.items() if is_used]
    return f" (with {', '.join(used)})" if used else ""
