"""The table of a search's candidates, updated while they are trained."""

from collections.abc import Sequence

from t2tbuild.nas.candidates_csv import shape_columns
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Record, State
from t2tbuild.report.table import Column, ColumnTable
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.units import short_count

SHOWN = 15
"""The number of rows; the other candidates are in candidates.csv."""


def candidates_table(records: Sequence[Record], ranking: Ranking, *, title: str, proxy: Proxy) -> ColumnTable:
    """Return the table of the base, the candidates in training and the best candidates so far.

    Candidates are sorted by predicted accuracy where the search ranks by it, else by the number of training steps and
    the result. A model that was trained with several seeds has one row per seed.
    """
    legend = (
        "tokens: P performer, T transformer, C convolution, with token_dim; MACs and params: at full size; "
        f"@N: validation {proxy.metric} after N training steps"
    )
    if ranking.uses_prediction:
        legend += "; top-1: predicted on ImageNet"
    has_latency = any(record.latency is not None for record in records)
    columns = [
        Column("candidate", right=True),
        Column("depth", 3, right=True),
        Column("width", 3, right=True),
        Column("mlp", 6, right=True),
        Column("tokens", 7),
        Column("MACs", 4, right=True),
        Column("params", 8, right=True),
        *([Column("latency", 2, right=True)] if has_latency else []),
        *([Column("top-1", 1, right=True)] if ranking.uses_prediction else []),
        *(Column(f"@{steps}", 5 if steps < proxy.rungs[-1] else 1, right=True) for steps in proxy.rungs),
        Column("state", 2),
    ]
    table = ColumnTable(columns, title=title, caption=legend, elsewhere="candidates.csv")
    shown = [
        record for record in records if (record.model is not None and record.rungs) or record.state is State.RUNNING
    ]
    shown.sort(key=lambda one: (one.number != BASE, one.state is not State.RUNNING, _rank(one, ranking)))
    for record in shown[:SHOWN]:
        latency = [f"{1000 * record.latency:.3g} ms" if record.latency else ""] if has_latency else []
        table.add_row(*_row(record, ranking, proxy, latency), style=_STYLE.get(record.state))
    return table


_STYLE = {State.RUNNING: "bold", State.PRUNED: "dim", State.FAILED: "red"}


def _rank(record: Record, ranking: Ranking) -> tuple[int, float]:
    if ranking.uses_prediction:
        return 0, -ranking.value(record)
    return -record.steps, -ranking.value(record) if record.rungs else 0.0


def _row(record: Record, ranking: Ranking, proxy: Proxy, latency: list[str]) -> list[str]:
    """Return the cells of a record; `latency` is its cell where the table has that column."""
    assert record.model is not None
    posterior = ranking.posterior(record)
    predicted = [f"{posterior.top1:.1f}%" if posterior is not None else ""] if ranking.uses_prediction else []
    shape = shape_columns(record.model)
    shown = [f"{rung.accuracy:.1%}" if proxy.metric == "accuracy" else f"{rung.loss:.3f}" for rung in record.rungs]
    return [
        record.number + (f" seed {record.seed}" if record.seed else ""),
        str(shape["depth"]),
        str(shape["embed_dim"]),
        str(shape["mlp_ratio"]),
        record.model.tokenizer.summary,
        short_count(record.macs) if record.macs else "",
        short_count(record.params) if record.params else "",
        *latency,
        *predicted,
        *shown,
        *[""] * (len(proxy.rungs) - len(shown)),
        str(record.state),
    ]
