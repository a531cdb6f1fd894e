"""The table of a model's cost."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from t2tbuild.cost import CONVENTION, Cost
from t2tbuild.spec.tree import Spec
from t2tbuild.spec.units import short_count


def cost_table(spec: Spec, cost: Cost) -> RenderableType:
    """One row a part, then totals beside the paper's figures, then the counting convention."""
    table = Table(title=f"{spec.model.name}, image {spec.model.image}", title_justify="left", show_footer=True)
    table.add_column("part", footer="total")
    for name in ("grid", "tokens", "channels"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("params", justify="right", footer=short_count(cost.params), no_wrap=True)
    table.add_column("MACs", justify="right", footer=short_count(cost.macs), no_wrap=True)
    table.add_column("share", justify="right", footer="100.0%", no_wrap=True)
    for part in cost.parts:
        table.add_row(
            part.name,
            str(part.grid or ""),
            _number(part.tokens),
            _number(part.channels),
            short_count(part.params) if part.params else "-",
            short_count(part.macs) if part.macs else "-",
            f"{part.macs / cost.macs:.1%}",
        )
    return Group(table, _totals(spec, cost), Text(f"{CONVENTION}.", style="dim"))


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _totals(spec: Spec, cost: Cost) -> RenderableType:
    totals = Table.grid(padding=(0, 2))
    printed = spec.paper[0] if spec.paper else None
    table = ("released code" if printed.table is None else f"paper, Table {printed.table}") if printed else ""
    totals.add_row("", Text("counted", justify="right"), Text(table, justify="right"))
    rows = [
        ("parameters", cost.params, printed.params if printed else None),
        ("trainable", cost.trainable_params, None),
        ("MACs", cost.macs, printed.macs if printed else None),
    ]
    for name, counted, paper in rows:
        beside = Text(short_count(paper) if paper else "", justify="right")
        totals.add_row(name, Text(f"{counted:,}", justify="right"), beside)
    if printed and printed.top1 is not None:
        totals.add_row("ImageNet top-1", "", Text(f"{printed.top1}%", justify="right"))
    return totals
