"""The table of a search's candidates, drawn anew as they climb."""

from collections.abc import Sequence

from rich.table import Table

from t2tbuild.search.record import BASE, Record, State, shape_of
from t2tbuild.spec.units import short_count

SHOWN = 15  # rows; the others are in candidates.csv


def candidates_table(records: Sequence[Record], *, title: str, rungs: Sequence[int], metric: str) -> Table:
    """The base first, then the best candidates so far and those under way, the most advanced and best first.

    What was trained with several seeds has a row for each, marked by it.
    """
    legend = (
        "tokens: P performer, T transformer, C convolution, with token_dim; MACs, params at full size; "
        f"@ training steps: validation {metric}"
    )
    table = Table(title=title, title_justify="left", caption=legend, caption_justify="left")
    for column in ("candidate", "depth", "width", "mlp", "tokens", "MACs", "params"):
        table.add_column(column, justify="left" if column == "tokens" else "right")
    for steps in rungs:
        table.add_column(f"@{steps}", justify="right")
    table.add_column("state")
    shown = [
        record for record in records if (record.model is not None and record.rungs) or record.state is State.CLIMBING
    ]
    shown.sort(key=lambda record: (record.number != BASE, record.state is not State.CLIMBING, _rank(record, metric)))
    for record in shown[:SHOWN]:
        table.add_row(*_row(record, len(rungs), metric), style=_STYLE.get(record.state))
    return table


_STYLE = {State.CLIMBING: "bold", State.STOPPED: "dim", State.FAILED: "red"}


def _rank(record: Record, metric: str) -> tuple[int, float]:
    return -record.steps, -record.score(metric) if record.rungs else 0.0


def _row(record: Record, rungs: int, metric: str) -> list[str]:
    assert record.model is not None
    shape = shape_of(record.model)
    shown = [f"{rung.accuracy:.1%}" if metric == "accuracy" else f"{rung.loss:.3f}" for rung in record.rungs]
    return [
        record.number + (f" seed {record.seed}" if record.seed else ""),
        str(shape["depth"]),
        str(shape["embed_dim"]),
        str(shape["mlp_ratio"]),
        record.model.tokenizer.short,
        short_count(record.macs) if record.macs else "",
        short_count(record.params) if record.params else "",
        *shown,
        *[""] * (rungs - len(shown)),
        str(record.state),
    ]
