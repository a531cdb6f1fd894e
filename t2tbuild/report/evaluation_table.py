"""The table of an evaluation."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from t2tbuild.training.evaluate import Score

WORST = 10


def score_table(score: Score) -> RenderableType:
    """The figures of the split, and the classes that do worst."""
    rows = Table.grid(padding=(0, 2))
    rows.add_row("top-1", f"{score.top1:.2%}")
    rows.add_row("top-5", f"{score.top5:.2%}")
    rows.add_row("loss", f"{score.loss:.4f} nats")
    known = [(one.accuracy, one.name) for one in score.classes if one.accuracy is not None]
    worst = Table()
    worst.add_column("class")
    worst.add_column("accuracy", justify="right")
    for accuracy, name in sorted(known)[:WORST]:
        worst.add_row(name, f"{accuracy:.2%}")
    title = f"{score.name} on {score.images:,} images of {score.data}, {score.split}; weights of {score.weights}"
    return Group(Text(title), rows, Text(f"the classes that do worst, of {len(known)} with images"), worst)
