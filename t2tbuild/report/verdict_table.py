"""What a search has shown: the trainings with several seeds as a table, the gains in words."""

import statistics

from rich.table import Table

from t2tbuild.cost import predict_cost
from t2tbuild.cost.memory import predict_memory
from t2tbuild.nas.record import BASE, Record, State, best_of, key_of, shape_of
from t2tbuild.nas.run import SearchResult
from t2tbuild.nas.verdict import Interval, Prediction
from t2tbuild.report.cost_table import in_bytes
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.units import short_count


def verdict_table(result: SearchResult) -> Table:
    """What the verdict rests on: predicted accuracies, or the trainings with several seeds."""
    found = result.verdict.prediction
    return _retrained_table(result) if found is None else _predicted_table(result, found)


PREDICTED = ("model", "depth", "width", "mlp", "tokens", "MACs", "params", "memory", "latency", "top-1")
"""Columns of the table of predicted accuracies."""


def _predicted_table(result: SearchResult, found: Prediction) -> Table:
    shown = f", the best {len(found.equals)}" if found.equal_shapes > len(found.equals) else ""
    title = f"predicted ImageNet top-1 (90% interval); {found.equal_shapes} other backbones are its equals{shown}"
    table = Table(title=title, title_justify="left")
    for column in PREDICTED:
        table.add_column(column, justify="left" if column in ("model", "tokens") else "right")
    for row in predicted_rows(result):
        table.add_row(*row, style="bold" if row[0] == "winner" else None)
    return table


def predicted_rows(result: SearchResult) -> list[list[str]]:
    """The winner, the base and the winner's equals: one row each, in the columns of PREDICTED."""
    found, winner = result.verdict.prediction, result.winner
    assert found is not None and winner.model is not None
    latencies = result.latencies
    rows = [("winner", winner.model, found.winner)]
    if result.base.key != winner.key and result.base.model is not None and found.base is not None:
        rows.append(("base", result.base.model, found.base))
    table = []
    for name, model, belief in rows:
        cost, memory = predict_cost(model), predict_memory(model).inference
        latency = latencies.get(key_of(model))
        table.append(_predicted_row(name, model, cost.macs, cost.params, memory, latency, str(belief)))
    for one in found.equals:
        row = _predicted_row("equal", one.model, one.macs, one.params, one.memory, one.latency, str(one.accuracy))
        table.append(row)
    return table


def _predicted_row(
    name: str, model: ModelSpec, macs: int, params: int, memory: int, latency: float | None, accuracy: str
) -> list[str]:
    shape = shape_of(model)
    return [
        name,
        str(shape["depth"]),
        str(shape["embed_dim"]),
        str(shape["mlp_ratio"]),
        model.tokenizer.short,
        short_count(macs),
        short_count(params),
        in_bytes(memory),
        "" if latency is None else f"{1000 * latency:.1f} ms",
        accuracy,
    ]


def _retrained_table(result: SearchResult) -> Table:
    """The base and what was trained again, each with the mean and the spread of its seeds."""
    table = Table(title=f"trained again: {result.trained_as}", title_justify="left")
    for column in ("model", "drawn by", "depth", "width", "MACs", "seeds", "loss", "accuracy"):
        table.add_column(column, justify="left" if column in ("model", "drawn by") else "right")
    for number, row in trained_again(result).items():
        table.add_row(*row, style="bold" if number == result.winner.number else None)
    return table


def trained_again(result: SearchResult) -> dict[str, list[str]]:
    """Of each model with trainings of several seeds: name, arm, depth, width, MACs, seeds, loss, accuracy."""
    groups: dict[str, list[Record]] = {}
    for record in result.repeats:
        if record.state is State.TOP:
            groups.setdefault(record.number, []).append(record)
    return {number: _row(number, records) for number, records in groups.items()}


def _row(number: str, records: list[Record]) -> list[str]:
    first, rungs = records[0], [record.rungs[-1] for record in records]
    assert first.model is not None
    return [
        f"base, {first.model.name}" if number == BASE else f"candidate {number}",
        str(first.arm),
        str(first.model.backbone.depth),
        str(first.model.backbone.embed_dim),
        short_count(first.macs or 0),
        str(len(records)),
        _mean([rung.loss for rung in rungs], "{:.3f}"),
        _mean([rung.accuracy for rung in rungs], "{:.1%}"),
    ]


def gain_lines(result: SearchResult) -> list[str]:
    """Gains with their intervals, the race of the arms, and what candidates were asked for."""
    metric = result.spec.search.proxy.metric
    unit = "accuracy" if metric == "accuracy" else "-ln(loss)"
    message = list(result.verdict.prediction.reasons) if result.verdict.prediction else []
    message += [
        f"gain over {gain.over}: {_interval(gain.difference)} {unit}, {gain.seeds[0]} against {gain.seeds[1]} seeds"
        for gain in result.verdict.gains
    ]
    leader = best_of(result.records, result.ranking.value)
    if (
        not result.ranking.by_prediction
        and leader is not None
        and leader.key not in {record.key for record in result.repeats}
    ):
        message.append(f"candidate {leader.number} led by its one training; what was not trained again cannot win")
    race = result.verdict.race
    if race is not None:
        message.append(
            f"sampler against random draws after {race.seconds:.0f} s of training each: {_interval(race.gain)} {unit}"
        )
    tally = result.report["counts"]
    message.append(
        f"{tally['asked']} candidates asked for, {tally['trained']} trained, {tally['stopped']} of them stopped early, "
        f"{tally['failed']} failed; {tally['infeasible']} too dear by fvcore's count or too slow, {tally['duplicate']} "
        f"trained by another worker; trained over budget: {tally['trained_over_budget']}"
    )
    message.append(
        f"{tally['drawn']} draws: {tally['drawn_infeasible']} out of budget or invalid, {tally['drawn_duplicate']} not "
        f"new, {tally['drawn_passed_over']} passed over for a better one; none of these was built for training"
    )
    message += _test_line(result)
    if result.verdict.prediction is None:
        message.append("a proxy, no full training: short trainings favour what learns fast")
    return message


def _test_line(result: SearchResult) -> list[str]:
    """What the test split said, which nothing was chosen by."""
    if not result.test or not result.test.get("of_winner"):
        return []
    parts = []
    for role, name in (("of_winner", "winner"), ("of_base", "base")):
        accuracies = [one["accuracy"] for one in result.test.get(role, ())]
        parts += [f"{name} {_mean(accuracies, '{:.1%}')}"] if accuracies else []
    times = "once" if result.test["looks"] == 1 else f"{result.test['looks']} times"
    return [f"test split, looked at {times} after the search: {', '.join(parts)}"]


def _interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.value:+.3f}"
    return f"{interval.value:+.3f} (95% interval {interval.low:+.3f} to {interval.high:+.3f})"


def _mean(values: list[float], form: str) -> str:
    mean = form.format(statistics.fmean(values))
    return f"{mean} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else mean
