"""The supernet of a search in its reports: what was trained, what inherited weights say, and what that was worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from t2tbuild.nas.result import SearchResult
from t2tbuild.nas.supernet.results import FOLDER, InheritedResult, StandaloneResult, read_results
from t2tbuild.report.figure import BLUE, GREEN, GREY, ORANGE, new_figure
from t2tbuild.report.table import Column, ColumnTable
from t2tbuild.spec.units import short_count

SELDOM = 0.5
"""A value that was trained less than this share of the mean of its field's values is noted."""
DIP = 0.01
"""A value whose members are less accurate than those of both neighbours, by at least this, is noted."""
MAX_DRAWN = 2_000
"""Largest number of members that are drawn; of more, every n-th is."""

TRAINED = (
    Column("field"),
    Column("value"),
    Column("steps trained", right=True),
    Column("members", 2, right=True),
    Column("mean inherited accuracy", right=True),
    Column("note", 1),
)
BEST = (
    Column("budget", right=True),
    Column("member"),
    Column("MACs", right=True),
    Column("params", 1, right=True),
    Column("inherited loss", 2, right=True),
    Column("inherited accuracy", right=True),
)


@dataclass(frozen=True)
class SupernetView:
    """The report of a supernet, its members with inherited weights, and those that were trained alone."""

    report: Mapping[str, Any]
    members: Sequence[InheritedResult]
    alone: Sequence[StandaloneResult]

    @property
    def sentence(self) -> str:
        sentence: str = self.report["sentence"]
        return sentence

    @property
    def correlations(self) -> list[Mapping[str, Any]]:
        """The rank correlations with stand-alone training: that of inherited weights, then the baselines."""
        validity = self.report["validity"]
        return [] if validity is None else [validity["inherited"], *validity["baselines"]]


def load_supernet_view(result: SearchResult) -> SupernetView | None:
    """Return what a search's supernet left in the run directory, None without a supernet or before its end."""
    report, folder = result.report["supernet"], result.run / FOLDER
    if report is None:
        return None
    return SupernetView(report, read_results(folder, InheritedResult), read_results(folder, StandaloneResult))


def trained_rows(view: SupernetView) -> list[list[str]]:
    """Return a row, in the columns of TRAINED, for each value of each field."""
    rows = []
    for field, values in view.report["trained"].items():
        for one, note in zip(values, _notes(values), strict=True):
            accuracy = "" if one["accuracy"] is None else f"{one['accuracy']:.1%}"
            rows.append([field, str(one["value"]), f"{one['steps']:,}", f"{one['members']:,}", accuracy, note])
    return rows


def _notes(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is unusual about each value of a field: trained seldom, or worse than both its neighbours."""
    mean = sum(one["steps"] for one in values) / len(values)
    notes = ["seldom trained" if one["steps"] < SELDOM * mean else "" for one in values]
    numbers = all(isinstance(one["value"], int | float) and one["accuracy"] is not None for one in values)
    order = sorted(range(len(values)), key=lambda index: values[index]["value"]) if numbers else []
    for below, index, above in zip(order, order[1:], order[2:], strict=False):
        accuracy = values[index]["accuracy"]
        if accuracy + DIP <= min(values[below]["accuracy"], values[above]["accuracy"]):
            notes[index] = ", ".join(filter(None, [notes[index], "worse than both neighbours"]))
    return notes


def best_rows(view: SupernetView) -> list[list[str]]:
    """Return a row, in the columns of BEST, for the best member within each budget of MACs."""
    by_key = {one.key: one for one in view.members}
    rows = []
    for limit, keys in view.report["best"].items():
        for one in (by_key[key] for key in keys[:1] if key in by_key):
            budget = short_count(int(limit)) if int(limit) else "none"
            costs = [short_count(one.macs), short_count(one.params)]
            rows.append([budget, describe_values(one), *costs, f"{one.loss:.3f}", f"{one.accuracy:.1%}"])
    return rows


def describe_values(member: InheritedResult) -> str:
    """Describe a member by its values, those of the stages and blocks of a field together: depth 12, mlp_ratio 2/3."""
    numbered = [(".".join(part for part in path.split(".") if not part.isdigit()), value) for path, value in
                member.values.items()]  # fmt: skip
    parts = []
    for field, pairs in groupby(numbered, key=lambda pair: pair[0]):
        values = [str(value) for _, value in pairs]
        parts.append(f"{field.rpartition('.')[2]} {values[0] if len(set(values)) == 1 else '/'.join(values)}")
    return ", ".join(parts)


def supernet_tables(view: SupernetView) -> list[ColumnTable]:
    """Return the tables for a terminal: the best member of each budget, and what was trained."""
    titles = {
        "best members by inherited loss": (BEST, best_rows(view)),
        "what was trained": (TRAINED, trained_rows(view)),
    }
    tables = []
    for title, (columns, rows) in titles.items():
        table = ColumnTable(columns, title=f"supernet: {title}", elsewhere="report.html")
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def plot_supernet(view: SupernetView, folder: Path) -> None:
    """Draw supernet_validity.png, where members were trained alone, and supernet_front.png into a folder."""
    if view.alone:
        draw_validity(view).savefig(folder / "supernet_validity.png")
    draw_front(view).savefig(folder / "supernet_front.png")


def draw_validity(view: SupernetView) -> Figure:
    """Return a figure of the results of random members, inherited against trained alone."""
    metric = view.report["metric"]
    figure = new_figure(5, 4.5)
    axes = figure.subplots()
    x = [getattr(one, f"inherited_{metric}") for one in view.alone]
    y = [getattr(one, metric) for one in view.alone]
    points = axes.scatter(x, y, c=[one.macs / 1e9 for one in view.alone], cmap="viridis")
    figure.colorbar(points, ax=axes, label="GMACs")
    axes.set(xlabel=f"{metric} with inherited weights", ylabel=f"{metric} when trained alone")
    figure.suptitle("Inherited against stand-alone results", x=0.02, ha="left")
    tau = view.correlations[0]["tau"] if view.correlations else None
    if tau is not None:
        interval = "" if tau["low"] is None else f" ({tau['low']:.2f} to {tau['high']:.2f})"
        axes.set_title(f"Kendall's tau {tau['value']:.2f}{interval}, {len(x)} random members", fontsize=8, loc="left")
    axes.grid(alpha=0.3)
    return figure


def draw_front(view: SupernetView) -> Figure:
    """Return a figure of inherited loss against MACs: the evaluated members, their front, and the best by budget."""
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    by_key = {one.key: one for one in view.members}
    drawn = view.members[:: 1 + len(view.members) // MAX_DRAWN]
    axes.scatter(*_points(drawn), s=8, c=GREY, label="evaluated members", zorder=1)
    front = sorted((by_key[key] for key in view.report["fronts"]["macs"] if key in by_key), key=lambda one: one.macs)
    axes.step(*_points(front), where="post", color=GREEN, linewidth=1, label="front", zorder=2)
    best = [by_key[key] for keys in view.report["best"].values() for key in keys[:1] if key in by_key]
    axes.scatter(*_points(best), c=ORANGE, marker="s", s=50, label="best within a budget", zorder=3)
    for limit in filter(None, map(int, view.report["best"])):
        axes.axvline(limit / 1e9, color=BLUE, linestyle=":", linewidth=1)
        axes.annotate(short_count(limit), (limit / 1e9, 1), xycoords=("data", "axes fraction"), fontsize=8, rotation=90,
                      ha="right", va="top")  # fmt: skip
    axes.set(xlabel="GMACs at full size", ylabel="validation loss with inherited weights")
    figure.suptitle("Members of the supernet", x=0.02, ha="left")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _points(members: Sequence[InheritedResult]) -> tuple[list[float], list[float]]:
    return [one.macs / 1e9 for one in members], [one.loss for one in members]
