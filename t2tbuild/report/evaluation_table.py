"""The table of an evaluation, and its numbers as plain data."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from t2tbuild.report.table import Column, ColumnTable, FactTable
from t2tbuild.spec.label_names import shorten
from t2tbuild.spec.units import plural
from t2tbuild.training.evaluate import WeightsEvaluation

CLASSES_SHOWN = 10
CONFUSIONS_SHOWN = 3
CONFUSIONS_LISTED = 20  # as plain data; confusion.csv has all


def evaluation_table(score: WeightsEvaluation) -> RenderableType:
    """Return the metrics of a split, its most frequent confusions, and the classes of the lowest accuracy."""
    rows = FactTable()
    rows.add_row("top-1", f"{score.top1:.2%}")
    rows.add_row("top-5", f"{score.top5:.2%}")
    rows.add_row("loss", f"{score.loss:.4f} nats")
    for number, one in enumerate(score.confusions[:CONFUSIONS_SHOWN]):
        images = plural(one.images, "image")
        text = f"{shorten(one.label)} taken for {shorten(one.predicted)}: {images}"
        rows.add_row("confusions" if number == 0 else "", text)
    known = [(one.accuracy, one.name) for one in score.classes if one.accuracy is not None]
    worst = ColumnTable([Column("class"), Column("accuracy", 1, right=True)])
    for accuracy, name in sorted(known)[:CLASSES_SHOWN]:
        worst.add_row(name, f"{accuracy:.2%}")
    title = (
        f"{score.name} on {plural(score.images, 'image')} of {score.data}, {score.split}; weights of {score.weights}"
    )
    return Group(Text(title), rows, Text(f"classes of the lowest accuracy, of {len(known)} with images"), worst)


def evaluation_json(score: WeightsEvaluation) -> dict[str, Any]:
    """Return an evaluation as plain data: the most frequent confusions, and the mistakes without their pixels."""
    numbers = {key: value for key, value in vars(score).items() if key not in ("counts", "mistakes", "missing")}
    mistakes = [{key: value for key, value in vars(one).items() if key != "pixels"} for one in score.mistakes]
    return numbers | {
        "classes": {one.name: one.accuracy for one in score.classes},
        "confusions": [vars(one) for one in score.confusions[:CONFUSIONS_LISTED]],
        "mistakes": mistakes,
        "missing": list(score.missing),
    }
