"""A search space before the search: its size in words, and depth against width at equal MACs."""

from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from t2tbuild.report.figure import BLUE, ORANGE, new_figure
from t2tbuild.search.explain import Member, Size
from t2tbuild.spec.search import Search
from t2tbuild.spec.units import short_count


def space_table(size: Size) -> RenderableType:
    """By width the depths that the budget leaves."""
    seen = "" if size.exact else f", of {size.looked_at:,} draws"
    table = Table(title=f"depth against width within the budget{seen}", title_justify="left")
    for column in ("width", "shallowest", "deepest"):
        table.add_column(column, justify="right")
    for width, (low, high) in size.ranges.items():
        table.add_row(str(width), str(low), str(high))
    return table


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
