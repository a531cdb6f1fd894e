"""The verdict of a search: a table of predicted or retrained models, and the gains in words."""

import math
import statistics

from t2tbuild.nas.candidates_csv import shape_columns
from t2tbuild.nas.predicted_verdict import describe_equal
from t2tbuild.nas.record import BASE, Record, State, best_of
from t2tbuild.nas.result import SearchResult
from t2tbuild.nas.verdict import Equal, Interval, Prediction
from t2tbuild.report.cost_table import format_bytes
from t2tbuild.report.table import Column, ColumnTable
from t2tbuild.spec.units import short_count


def verdict_table(result: SearchResult) -> ColumnTable | None:
    """Return the evidence of the verdict: the predicted accuracies, or the retrained models, None if there are none."""
    prediction = result.verdict.prediction
    return _confirmation_table(result) if prediction is None else _predicted_table(result, prediction)


PREDICTED = (
    Column("model"),
    Column("depth", 2, right=True),
    Column("width", 2, right=True),
    Column("mlp", 6, right=True),
    Column("tokens", 7),
    Column("MACs", 3, right=True),
    Column("params", 4, right=True),
    Column("memory", 8, right=True),
    Column("latency", 5, right=True),
    Column("top-1", 1, right=True),
)
"""Columns of the table of predicted accuracies."""


def _predicted_table(result: SearchResult, prediction: Prediction) -> ColumnTable:
    best = f", of which {len(prediction.equals)} are listed" if prediction.equal_shapes > len(prediction.equals) else ""
    others = f"{prediction.equal_shapes} other backbones do not differ significantly{best}"
    title = f"predicted ImageNet top-1 (90% interval); {others}"
    table = ColumnTable(PREDICTED, title=title, elsewhere="report.html")
    for row in predicted_rows(result):
        table.add_row(*row, style="bold" if row[0] == "winner" else None)
    return table


def predicted_rows(result: SearchResult) -> list[list[str]]:
    """Return rows for the winner, the base, and the backbones equal to the winner, in the columns of PREDICTED."""
    prediction, winner = result.verdict.prediction, result.winner
    assert prediction is not None and winner.model is not None
    latencies = result.latencies
    rows = [("winner", winner.model, prediction.winner)]
    if result.base.key != winner.key and result.base.model is not None and prediction.base is not None:
        rows.append(("base", result.base.model, prediction.base))
    table = []
    for name, model, posterior in rows:
        table.append(_predicted_row(name, describe_equal(model, latencies), str(posterior)))
    return table + [_predicted_row("equal", one, str(one.accuracy)) for one in prediction.equals]


def _predicted_row(name: str, one: Equal, accuracy: str) -> list[str]:
    shape = shape_columns(one.model)
    return [
        name,
        str(shape["depth"]),
        str(shape["embed_dim"]),
        str(shape["mlp_ratio"]),
        one.model.tokenizer.summary,
        short_count(one.macs),
        short_count(one.params),
        format_bytes(one.memory),
        "" if one.latency is None else f"{1000 * one.latency:.1f} ms",
        accuracy,
    ]


CONFIRMATION = (
    Column("model"),
    Column("source", 6),
    Column("depth", 3, right=True),
    Column("width", 3, right=True),
    Column("MACs", 4, right=True),
    Column("seeds", 5, right=True),
    Column("loss", 1, right=True),
    Column("accuracy", 2, right=True),
)
"""Columns of the table of models trained with several seeds."""


def _confirmation_table(result: SearchResult) -> ColumnTable | None:
    """Return the table of the base and the retrained candidates, None where no candidate was retrained."""
    rows = confirmation_rows(result)
    if not rows:
        return None
    table = ColumnTable(CONFIRMATION, title=f"retrained with new seeds: {result.trained_as}", elsewhere="report.html")
    for number, row in rows.items():
        table.add_row(*row, style="bold" if number == result.winner.number else None)
    return table


def confirmation_rows(result: SearchResult) -> dict[str, list[str]]:
    """Return a row, in the columns of CONFIRMATION, for the base and each retrained candidate.

    Each has mean and deviation over seeds. There are no rows where no candidate was retrained.
    """
    groups: dict[str, list[Record]] = {}
    for record in result.reference_runs:
        if record.state is State.COMPLETED:
            groups.setdefault(record.number, []).append(record)
    if groups.keys() <= {BASE}:
        return {}
    return {number: _row(number, records) for number, records in groups.items()}


def _row(number: str, records: list[Record]) -> list[str]:
    first, rungs = records[0], [record.rungs[-1] for record in records]
    assert first.model is not None
    return [
        f"base, {first.model.name}" if number == BASE else f"candidate {number}",
        str(first.source),
        str(first.model.backbone.depth),
        str(first.model.backbone.embed_dim),
        short_count(first.macs or 0),
        str(len(records)),
        _mean([rung.loss for rung in rungs], "{:.3f}"),
        _mean([rung.accuracy for rung in rungs], "{:.1%}"),
    ]


def gain_lines(result: SearchResult) -> list[str]:
    """Return the gains with their intervals, the equal-compute comparison, and the counts of candidates and draws."""
    metric = result.spec.search.proxy.metric
    unit = "in accuracy" if metric == "accuracy" else "in -ln(loss)"
    lines = list(result.verdict.prediction.reasons) if result.verdict.prediction else []
    lines += [
        f"gain over {gain.over}: {_interval(gain.difference, ' (no spread is known)')} {unit}, "
        f"{gain.seeds[0]} against {gain.seeds[1]} seeds"
        for gain in result.verdict.gains
    ]
    lines += _leader_line(result)
    equal_compute = result.verdict.equal_compute
    if equal_compute is not None:
        lines.append(
            f"equal-compute comparison of sampler and random draws, {equal_compute.seconds:.0f} s of training each: "
            f"{_interval(equal_compute.gain)} {unit}"
        )
    counts = result.report["counts"]
    lines.append(
        f"candidates: {counts['asked']} drawn, {counts['trained']} trained, {counts['pruned']} of them pruned, "
        f"{counts['failed']} failed; {counts['infeasible']} over budget when measured, {counts['duplicate']} "
        f"trained by another worker; trained over budget: {counts['trained_over_budget']}"
    )
    lines.append(
        f"draws: {counts['drawn']}, of which {counts['drawn_infeasible']} out of budget or invalid, "
        f"{counts['drawn_duplicate']} duplicates, "
        f"{counts['drawn_passed_over']} passed over for a better one; none of these was trained"
    )
    lines += _test_line(result)
    if result.evaluator:
        lines.append(f"candidates were evaluated {result.trained_as}")
    elif result.verdict.prediction is None:
        lines.append("proxy training, not full training: short trainings favour models that learn fast")
    return lines


def _leader_line(result: SearchResult) -> list[str]:
    """Return the note on a best candidate that was not retrained. Where none was, it is the winner after all."""
    leader = best_of(result.records, result.ranking.value)
    runs = [record for record in result.reference_runs if record.number != BASE and record.state is State.COMPLETED]
    if result.ranking.uses_prediction or leader is None or not runs:
        return []
    retrained = {record.key for record in result.reference_runs}
    values = [result.ranking.value(record) for record in result.records if record.key in retrained]
    if leader.key in retrained or result.ranking.value(leader) in values:  # none is better than those
        return []
    return [f"candidate {leader.number} has the best single run, but was not retrained, so it cannot win"]


def _test_line(result: SearchResult) -> list[str]:
    """Return the accuracy on the test split, which is not used for any choice."""
    if not result.test or not result.test.get("of_winner"):
        return []
    parts = []
    for role, name in (("of_winner", "winner"), ("of_base", "base")):
        accuracies = [one["accuracy"] for one in result.test.get(role, ())]
        parts += [f"{name} {_mean(accuracies, '{:.1%}')}"] if accuracies else []
    times = "once" if result.test["evaluations"] == 1 else f"{result.test['evaluations']} times"
    return [f"test split, evaluated {times} after the search: {', '.join(parts)}"]


def _interval(interval: Interval, without: str = "") -> str:
    """Return a value with its interval, or with the note `without` where it has none."""
    if interval.low is None or interval.high is None:
        return f"{interval.value:+.3f}{without}"
    return f"{interval.value:+.3f} (95% interval {interval.low:+.3f} to {interval.high:+.3f})"


def _mean(values: list[float], form: str) -> str:
    """Return the mean of values over seeds, with their deviation, as text; - where an evaluator measured none."""
    if not all(map(math.isfinite, values)):
        return "-"
    mean = form.format(statistics.fmean(values))
    return f"{mean} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else mean
