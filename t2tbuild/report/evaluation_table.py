"""The table of an evaluation."""

from rich.console import Group, RenderableType
from rich.text import Text

from t2tbuild.report.table import Column, ColumnTable, FactTable
from t2tbuild.training.evaluate import WeightsEvaluation

CLASSES_SHOWN = 10


def evaluation_table(score: WeightsEvaluation) -> RenderableType:
    """Return the metrics of a split, and the classes of the lowest accuracy."""
    rows = FactTable()
    rows.add_row("top-1", f"{score.top1:.2%}")
    rows.add_row("top-5", f"{score.top5:.2%}")
    rows.add_row("loss", f"{score.loss:.4f} nats")
    known = [(one.accuracy, one.name) for one in score.classes if one.accuracy is not None]
    worst = ColumnTable([Column("class"), Column("accuracy", 1, right=True)])
    for accuracy, name in sorted(known)[:CLASSES_SHOWN]:
        worst.add_row(name, f"{accuracy:.2%}")
    title = f"{score.name} on {score.images:,} images of {score.data}, {score.split}; weights of {score.weights}"
    return Group(Text(title), rows, Text(f"classes of the lowest accuracy, of {len(known)} with images"), worst)
