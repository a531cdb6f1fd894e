"""A search space before the search: its size in words, and depth against width at equal MACs."""

import statistics
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from t2tbuild.accuracy.predictor import predict_accuracy
from t2tbuild.cost import predict_cost
from t2tbuild.nas.members import MEMBERS, Predicted
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.space_stats import Member, Size
from t2tbuild.report.figure import BLUE, ORANGE, new_figure
from t2tbuild.spec.search import Search
from t2tbuild.spec.units import short_count

SHOWN = 8
"""Members that the table of predictions shows."""


def space_table(size: Size) -> RenderableType:
    """By width the depths that the budget leaves."""
    seen = "" if size.exact else f", of {size.looked_at:,} draws"
    table = Table(title=f"depth against width within the budget{seen}", title_justify="left")
    for column in ("width", "shallowest", "deepest"):
        table.add_column(column, justify="right")
    for width, (low, high) in size.ranges.items():
        table.add_row(str(width), str(low), str(high))
    return table


def predicted_table(planned: Plan, search: Search) -> RenderableType:
    """The members of the best predicted ImageNet accuracy, one of each backbone, and the base."""
    found: dict[str, Predicted] = {}
    for one in planned.predicted:
        found.setdefault(one.shape.key, one)
    table = Table(
        title=f"best predicted ImageNet top-1 within {search.budget.short}",
        title_justify="left",
        caption="ordered by the lower end of the interval",
        caption_justify="left",
    )
    for column in ("model", "depth", "width", "mlp", "tokens", "MACs", "top-1 (90% interval)"):
        table.add_column(column, justify="left" if column in ("model", "tokens") else "right")
    rows = [("base", planned.base), *(("", one.member.model) for one in list(found.values())[:SHOWN])]
    for name, model in rows:
        backbone = model.backbone
        ratio = f"{statistics.fmean(backbone.mlp_ratios):g}"
        shape = (str(backbone.depth), str(backbone.embed_dim), ratio, model.tokenizer.short)
        table.add_row(name, *shape, short_count(predict_cost(model).macs), str(predict_accuracy(model)))
    return table


def why_not_predicted(planned: Plan) -> str | None:
    """Why the members of a space are not predicted, in words; None where they are."""
    if reason := predict_accuracy(planned.base).reason:
        return f"nothing is predicted for the base {planned.base.name}: {reason}"
    if not planned.members:
        return (
            f"the space is too large to predict every member (more than {MEMBERS:,} assignments); draws are predicted"
        )
    return None if planned.predicted else "no member of the space is near a published model, so none is predicted"


def space_lines(size: Size, search: Search) -> list[str]:
    """The size of a space in words."""
    if size.exact:
        members = f"{size.members:,} members within {search.budget.short} (counted)"
    else:
        members = (
            f"about {_many(size.members)} members within {search.budget.short} "
            f"(95% interval {_many(size.low)} to {_many(size.high)}, from {size.looked_at:,} draws)"
        )
    drawn = "" if size.exact else " drawn"
    unknown = ["latency is measured in the search alone, and not limited here"] if search.budget.latency else []
    return [
        f"{search.name}: {_many(size.assignments)} assignments of {len(search.space)} fields, "
        f"{size.feasible_share:.1%} of them with a member within the budget",
        members,
        f"smallest{drawn}: {_told(size.smallest)}",
        f"largest{drawn}: {_told(size.largest)}",
        *unknown,
    ]


def _many(number: int) -> str:
    return short_count(number) if number < 10**15 else f"{number:.1e}"


def _told(member: Member) -> str:
    backbone = member.model.backbone
    return (
        f"{short_count(member.macs)} MACs, {short_count(member.params)} parameters, depth {backbone.depth}, "
        f"width {backbone.embed_dim}, tokens {member.model.tokenizer.short}"
    )


def plot_space(size: Size, search: Search, path: Path) -> None:
    """The band of depths that the budget leaves at each width."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    widths = list(size.ranges)
    low, high = ([size.ranges[width][end] for width in widths] for end in (0, 1))
    axes.fill_between(widths, low, high, color=BLUE, alpha=0.25, label="members")
    axes.plot(widths, high, "o-", color=BLUE, label="deepest at its width")
    axes.plot(widths, low, "o-", color=ORANGE, label="shallowest at its width")
    axes.set(
        xlabel="embed_dim", ylabel="depth", title=f"{search.name}: depth against width within {search.budget.short}"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
