"""A search space before the search: its size, and depth against width within the budget."""

import statistics
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from t2tbuild.accuracy.predictor import predict_accuracy
from t2tbuild.cost.budget import is_over
from t2tbuild.cost.counter import known_cost
from t2tbuild.nas.members import MAX_MEMBERS, PredictedMember
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.space_stats import CostedModel, SpaceStats
from t2tbuild.report.figure import BLUE, ORANGE, new_figure
from t2tbuild.report.table import Column, ColumnTable
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search
from t2tbuild.spec.units import short_count

PREDICTIONS_SHOWN = 8
"""Rows of the table of predictions, besides the base."""


def space_table(size: SpaceStats) -> RenderableType:
    """Return the range of depths within the budget for each width."""
    sampled = "" if size.exact else f", of {size.sampled:,} draws"
    columns = [Column(name, right=True) for name in ("width", "shallowest", "deepest")]
    table = ColumnTable(columns, title=f"depth against width within the budget{sampled}")
    for width, (low, high) in size.ranges.items():
        table.add_row(str(width), str(low), str(high))
    return table


def predicted_table(planned: Plan, search: Search) -> RenderableType:
    """Return the base and the members of the highest predicted ImageNet accuracy, one for each backbone."""
    found: dict[str, PredictedMember] = {}
    for one in planned.predicted:
        found.setdefault(one.shape.key, one)
    table = ColumnTable(
        [
            Column("model"),
            Column("depth", 2, right=True),
            Column("width", 2, right=True),
            Column("mlp", 4, right=True),
            Column("tokens", 5),
            Column("MACs", 3, right=True),
            Column("top-1 (90% interval)", 1, right=True),
        ],
        title=f"highest predicted ImageNet top-1 within {search.budget.summary}",
        caption="sorted by the lower end of the interval",
    )
    rows = [("base", planned.base), *(("", one.member.model) for one in list(found.values())[:PREDICTIONS_SHOWN])]
    for name, model in rows:
        backbone = model.backbone
        ratio = f"{statistics.fmean(backbone.mlp_ratios):g}"
        shape = (str(backbone.depth), str(backbone.embed_dim), ratio, model.tokenizer.summary)
        table.add_row(name, *shape, short_count(known_cost(model).macs), str(predict_accuracy(model)))
    return table


def reason_not_predicted(planned: Plan) -> str | None:
    """Return the reason why accuracies in a space are not predicted; None if they are."""
    if reason := predict_accuracy(planned.base).reason:
        return f"the accuracy of the base {planned.base.name} cannot be predicted: {reason}"
    if not planned.members.assignments:
        return (
            f"the space is too large to predict every member (more than {MAX_MEMBERS:,} assignments); only the sampled "
            "ones are predicted"
        )
    return None if planned.predicted else "no member of the space is near a published model, so none is predicted"


def space_lines(size: SpaceStats, search: Search) -> list[str]:
    """Return the size of a space in words, one line per fact."""
    if size.exact:
        members = f"{size.members:,} members within {search.budget.summary} (counted)"
    else:
        members = (
            f"about {_format_large(size.members)} members within {search.budget.summary} "
            f"(95% interval {_format_large(size.low)} to {_format_large(size.high)}, from {size.sampled:,} draws)"
        )
    sampled = "" if size.exact else " sampled"
    notes = ["latency is measured during the search; this count ignores its limit"] if search.budget.latency else []
    return [
        f"{search.name}: {_format_large(size.assignments)} assignments of {len(search.space)} fields, "
        f"{size.feasible_share:.1%} of them with a member within the budget",
        members,
        f"smallest{sampled}: {_describe(size.smallest)}",
        f"largest{sampled}: {_describe(size.largest)}",
        *notes,
    ]


def base_line(planned: Plan) -> str:
    """Return the base with its cost: whether it is within the budget, and what it was scaled to if it is not."""
    named, budget = planned.space.base, planned.search.budget
    message = f"base {named.name}: {_describe(_costed(named))}"
    if planned.base == named:
        return message
    scaled = f"scaled to {planned.base.name}: {_describe(_costed(planned.base))}"
    return f"{message}; over the budget of {budget.summary}, so it is {scaled}"


def base_to_json(planned: Plan) -> dict[str, Any]:
    """Return the base, its cost, whether it is over the budget, and what it was scaled to, null if it was not."""
    named = planned.space.base
    scaled = None if planned.base == named else _to_json(planned.base)
    return _to_json(named) | {"over_budget": is_over(named, planned.search.budget), "scaled_to": scaled}


def _to_json(model: ModelSpec) -> dict[str, Any]:
    one = _costed(model)
    return {"name": model.name, "macs": one.macs, "params": one.params, "model": model.model_dump(mode="json")}


def _costed(model: ModelSpec) -> CostedModel:
    cost = known_cost(model)
    return CostedModel(model, cost.macs, cost.params)


def _format_large(number: int) -> str:
    return short_count(number) if number < 10**15 else f"{number:.1e}"


def _describe(member: CostedModel) -> str:
    backbone = member.model.backbone
    return (
        f"{short_count(member.macs)} MACs, {short_count(member.params)} parameters, depth {backbone.depth}, "
        f"width {backbone.embed_dim}, tokens {member.model.tokenizer.summary}"
    )


def plot_space(size: SpaceStats, search: Search, path: Path) -> None:
    """Draw the range of depths within the budget at each width into a file."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    widths = list(size.ranges)
    low, high = ([size.ranges[width][end] for width in widths] for end in (0, 1))
    axes.fill_between(widths, low, high, color=BLUE, alpha=0.25, label="members")
    axes.plot(widths, high, "o-", color=BLUE, label="deepest at its width")
    axes.plot(widths, low, "o-", color=ORANGE, label="shallowest at its width")
    axes.set(
        xlabel="embed_dim", ylabel="depth", title=f"{search.name}: depth against width within {search.budget.summary}"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
