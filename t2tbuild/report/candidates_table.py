"""The table of a search's candidates, drawn anew as they climb."""

from collections.abc import Sequence

from rich.table import Table

from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Record, State, shape_of
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.units import short_count

SHOWN = 15  # rows; the others are in candidates.csv


def candidates_table(records: Sequence[Record], ranking: Ranking, *, title: str, proxy: Proxy) -> Table:
    """The base first, then those under way and the best candidates so far, as the search ranks them.

    Where accuracy is predicted, it has a column, and decides the order; else the most advanced and best trained are
    first. What was trained with several seeds has a row for each, marked by it.
    """
    legend = (
        "tokens: P performer, T transformer, C convolution, with token_dim; MACs, params at full size; "
        f"@ training steps: validation {proxy.metric}"
    )
    if ranking.by_prediction:
        legend += "; top-1: ImageNet, predicted"
    table = Table(title=title, title_justify="left", caption=legend, caption_justify="left")
    for column in ("candidate", "depth", "width", "mlp", "tokens", "MACs", "params"):
        table.add_column(column, justify="left" if column == "tokens" else "right")
    if ranking.by_prediction:
        table.add_column("top-1", justify="right")
    for steps in proxy.rungs:
        table.add_column(f"@{steps}", justify="right")
    table.add_column("state")
    shown = [
        record for record in records if (record.model is not None and record.rungs) or record.state is State.CLIMBING
    ]
    shown.sort(key=lambda one: (one.number != BASE, one.state is not State.CLIMBING, _rank(one, ranking)))
    for record in shown[:SHOWN]:
        table.add_row(*_row(record, ranking, proxy), style=_STYLE.get(record.state))
    return table


_STYLE = {State.CLIMBING: "bold", State.STOPPED: "dim", State.FAILED: "red"}


def _rank(record: Record, ranking: Ranking) -> tuple[int, float]:
    if ranking.by_prediction:
        return 0, -ranking.value(record)
    return -record.steps, -ranking.value(record) if record.rungs else 0.0


def _row(record: Record, ranking: Ranking, proxy: Proxy) -> list[str]:
    assert record.model is not None
    belief = ranking.belief(record)
    predicted = [f"{belief.top1:.1f}%" if belief is not None else ""] if ranking.by_prediction else []
    shape = shape_of(record.model)
    shown = [f"{rung.accuracy:.1%}" if proxy.metric == "accuracy" else f"{rung.loss:.3f}" for rung in record.rungs]
    return [
        record.number + (f" seed {record.seed}" if record.seed else ""),
        str(shape["depth"]),
        str(shape["embed_dim"]),
        str(shape["mlp_ratio"]),
        record.model.tokenizer.short,
        short_count(record.macs) if record.macs else "",
        short_count(record.params) if record.params else "",
        *predicted,
        *shown,
        *[""] * (len(proxy.rungs) - len(shown)),
        str(record.state),
    ]
