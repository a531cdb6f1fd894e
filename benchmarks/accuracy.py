"""Measure the error of predict_accuracy: python benchmarks/accuracy.py [--sources | --uncertain | --reserved].

Three tests, each on models that the predictor was not fitted to:

- one row left out, of the T2T paper's and DeiT's rows, and of all;
- a whole source left out. The offsets of its recipes are unknown then and are subtracted, which leaves the order and
  the distances within the source;
- with --reserved, the reserved sources, which were not used in choosing features or priors, fitted without them.

Also the pairs whose order on ImageNet is known, each predicted by a predictor that was fitted without both models.

The first two tests leave the reserved sources out of the fit, too. --sources runs the second test alone, --uncertain
the first with and without the uncertain rows of published.yaml in the fit. --markdown prints these two tables as
docs/accuracy.md has them, --plot FILE draws the first test.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from t2tbuild import load_spec, predict_accuracy
from t2tbuild.accuracy.features import shape_of
from t2tbuild.accuracy.fit import fit_predictor, imagenet_models
from t2tbuild.accuracy.pairs import KNOWN_PAIRS, KnownPair
from t2tbuild.accuracy.predictor import DEFAULT_RECIPE, Z_90, Difference
from t2tbuild.accuracy.published import PublishedModel, reserved_sources
from t2tbuild.report.figure import BLUE, ORANGE, new_figure
from t2tbuild.spec import ModelSpec, catalog

DEIT = ("deit_300", "deit_300_disttoken")
"""DeiT's main rows: its three sizes without and with the distillation token. Its other 30 rows are the same three
shapes with other teachers, epochs and losses, 8 of them from a chart."""
FEW_MODELS = 3
"""A source with fewer left-out models has no row of its own."""
LARGEST = 4
"""Shipped models whose prediction changes most, listed by --uncertain."""
LEFT_OUT_COLUMNS = ("models of", "models", "tau", "mean error", "intervals hold")
SOURCE_COLUMNS = ("source", *LEFT_OUT_COLUMNS[1:])
UNCERTAIN_COLUMNS = ("models of", "fitted to", *LEFT_OUT_COLUMNS[1:])


@dataclass(frozen=True)
class LeftOut:
    """A left-out model: published and predicted top-1 in percent, and whether the 90% interval contains it."""

    model: PublishedModel
    predicted: float
    held: bool

    @property
    def error(self) -> float:
        return self.predicted - self.model.top1


def leave_one_out(models: Sequence[PublishedModel], wanted: Sequence[PublishedModel]) -> list[LeftOut]:
    """Predict each of `wanted` by a predictor fitted to all other `models`."""
    found = []
    for model in wanted:
        predictor = fit_predictor([one for one in models if one is not model], min_models=1)
        estimate = predictor.estimate(shape_of(model.model), model.recipe.name)
        apart = abs(np.log(100 - model.top1) - estimate.mean)
        found.append(LeftOut(model, 100 - float(np.exp(estimate.mean)), bool(apart <= Z_90 * estimate.deviation)))
    return found


def leave_source_out(models: Sequence[PublishedModel], source: Iterable[PublishedModel]) -> list[LeftOut]:
    """Predict the models of a source by a predictor fitted to all others, with each recipe's offset subtracted.

    Recipes with a single model are left out: nothing is left of them.
    """
    source = list(source)
    names = {one.source for one in source}
    predictor = fit_predictor([one for one in models if one.source not in names], min_models=1)
    found = []
    for recipe in dict.fromkeys(one.recipe.name for one in source):
        own = [one for one in source if one.recipe.name == recipe]
        if len(own) < 2:
            continue
        # The recipe is unknown even if another source has one of the same name: this source trained its own models.
        estimates = [predictor.estimate(shape_of(one.model), f"{one.source} {recipe}") for one in own]
        means = np.array([estimate.mean for estimate in estimates])
        apart = np.log(100 - np.array([one.top1 for one in own])) - means
        variances = np.array([one.variance + one.noise - predictor.unknown_recipe**2 for one in estimates])
        half = Z_90 * np.sqrt(variances * (1 - 1 / len(own)))
        for one, mean, off, width in zip(own, means, apart - apart.mean(), half, strict=True):
            predicted = 100 - float(np.exp(mean + apart.mean()))
            found.append(LeftOut(one, predicted, bool(abs(off) <= width)))
    return found


def figures(found: Sequence[LeftOut]) -> list[str]:
    """Return the number of models, Kendall's tau, the mean error in points, and the coverage of the intervals.

    Tau is empty where all models are predicted or published as equal.
    """
    tau = stats.kendalltau([one.predicted for one in found], [one.model.top1 for one in found]).statistic
    error = np.mean([abs(one.error) for one in found])
    order = "" if np.isnan(tau) else f"{tau:.2f}"
    return [str(len(found)), order, f"{error:.2f}", f"{np.mean([one.held for one in found]):.0%}"]


def difference_of(
    models: Sequence[PublishedModel], pair: KnownPair, named: Mapping[tuple[str, str], PublishedModel]
) -> Difference:
    """Return the predicted difference of a known pair, fitted to `models` without both."""
    rest = [one for one in models if (one.source, one.name) not in (pair.better, pair.worse)]
    better, worse = (shape_of(named[name].model) for name in (pair.better, pair.worse))
    return fit_predictor(rest, min_models=1).difference(better, worse, pair.recipe)


def pair_table(models: Sequence[PublishedModel]) -> Table:
    table = Table(title="pairs whose order is known, fitted without both models", title_justify="left")
    for column in ("better", "than", "published", "predicted"):
        table.add_column(column, justify="left" if column in ("better", "than") else "right")
    named = {(one.source, one.name): one for one in models}
    for pair in KNOWN_PAIRS:
        both = [named[name] for name in (pair.better, pair.worse)]
        gain = difference_of(models, pair, named)
        published = f"{both[0].top1:g} - {both[1].top1:g} = {both[0].top1 - both[1].top1:.1f}"
        table.add_row(
            pair.better[1], pair.worse[1], published, f"{gain.value:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})"
        )
    return table


def plot(found: Sequence[LeftOut], path: Path) -> None:
    """Plot predicted against published top-1 of models that were left out one at a time."""
    figure = new_figure(7, 5.6)
    axes = figure.subplots()
    for paper, color, label in ((False, BLUE, "other sources"), (True, ORANGE, "the T2T paper and DeiT")):
        some = [one for one in found if _is_paper(one.model) is paper]
        x, y = [one.model.top1 for one in some], [one.predicted for one in some]
        axes.scatter(x, y, s=14, color=color, alpha=0.7, label=f"{label} ({len(some)})", zorder=3 if paper else 2)
    for one in found:
        if abs(one.error) > 2.5 and _is_paper(one.model):
            place = (one.model.top1, one.predicted)
            axes.annotate(one.model.name, place, (5, -3), textcoords="offset points", fontsize=7)
    axes.axline((75, 75), slope=1, color="black", linewidth=0.8)
    axes.set(
        xlabel="published ImageNet top-1 (%)", ylabel="predicted without that model (%)", xlim=(66, 88), ylim=(66, 88)
    )
    axes.set_title("Accuracy, predicted with the model itself left out", loc="left")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    figure.savefig(path)


def source_rows(models: Sequence[PublishedModel]) -> list[list[str]]:
    """Return the figures of each source, left out as a whole, and of all; sources with few models count in all only."""
    rows, total = [], []
    for source in dict.fromkeys(one.source for one in models):
        found = leave_source_out(models, [one for one in models if one.source == source])
        total += found
        if len(found) >= FEW_MODELS:
            rows.append([source, *figures(found)])
    return [*rows, ["all", *figures(total)]]


def groups_of(left_out: Sequence[LeftOut]) -> list[tuple[str, list[LeftOut]]]:
    """Return the left-out models of the paper and DeiT, of each alone, and of all sources."""
    return [
        ("the T2T paper and DeiT", [one for one in left_out if _is_paper(one.model)]),
        ("the T2T paper and DeiT, all rows", [one for one in left_out if one.model.source in ("t2t", "deit")]),
        ("the T2T paper", [one for one in left_out if one.model.source == "t2t"]),
        ("DeiT, all rows", [one for one in left_out if one.model.source == "deit"]),
        ("all sources", list(left_out)),
    ]


def uncertain_rows(models: Sequence[PublishedModel]) -> list[list[str]]:
    """Return the figures of the certain models, each left out, with and without the uncertain ones in the fit."""
    wanted = [one for one in models if not one.uncertain]
    fits = (
        ("all rows", models),
        ("without uncertain top-1", [one for one in models if "top1" not in one.uncertain]),
        ("without uncertain rows", wanted),
    )
    rows = []
    for label, fitted in fits:
        for group, some in groups_of(leave_one_out(fitted, wanted)):
            if group in ("the T2T paper and DeiT", "all sources"):
                rows.append([group, f"{label} ({len(fitted)})", *figures(some)])
    return sorted(rows, key=lambda row: row[0] == "all sources")


def largest_changes(every: Sequence[PublishedModel]) -> list[tuple[str, float, float]]:
    """Return the shipped models whose predicted top-1 changes most without uncertain rows, with both predictions."""
    whole, certain = (fit_predictor(some) for some in (every, [one for one in every if not one.uncertain]))
    found = []
    for name in catalog.names("specs"):
        model = load_spec(name).model
        if isinstance(model, ModelSpec) and predict_accuracy(model).top1 is not None:
            both = (100 - float(np.exp(one.estimate(shape_of(model), DEFAULT_RECIPE).mean)) for one in (whole, certain))
            found.append((name, *both))
    return sorted(found, key=lambda one: -abs(one[2] - one[1]))[:LARGEST]


def wrong_pairs(models: Sequence[PublishedModel]) -> list[str]:
    """Return the known pairs that are not ordered as published, fitted without both models."""
    named = {(one.source, one.name): one for one in imagenet_models()}
    return [pair.name for pair in KNOWN_PAIRS if difference_of(models, pair, named).value <= 0]


def show(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False
) -> None:
    """Print a table, for people or as Markdown."""
    if markdown:
        for row in (columns, ["---"] * len(columns), *rows):
            print(f"| {' | '.join(row)} |")
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("source", "models of", "fitted to") else "right")
    for cells in rows:
        table.add_row(*cells)
    console.print(table)


def _is_paper(model: PublishedModel) -> bool:
    return model.source == "t2t" or (model.source == "deit" and model.recipe.name in DEIT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reserved", action="store_true")
    parser.add_argument("--sources", action="store_true", help="leave each source out, and nothing else")
    parser.add_argument("--uncertain", action="store_true", help="compare fits with and without uncertain rows")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    console = Console(width=120)
    every, reserved = imagenet_models(), reserved_sources()
    models = [one for one in every if one.source not in reserved]
    by_source = "a source left out, its recipes' offsets taken off"
    if given.reserved:
        found = {name: leave_source_out(models, [one for one in every if one.source == name]) for name in reserved}
        rows = [[name, *figures(found[name])] for name in sorted(found)]
        total = figures([one for name in sorted(found) for one in found[name]])
        title = "reserved sources, fitted without them; offsets taken off"
        show(console, title, SOURCE_COLUMNS, [*rows, ["all", *total]], markdown=given.markdown)
        return
    if given.sources:
        show(console, by_source, SOURCE_COLUMNS, source_rows(models), markdown=given.markdown)
        return
    if given.uncertain:
        title = "one certain model left out, with and without the uncertain ones in the fit"
        show(console, title, UNCERTAIN_COLUMNS, uncertain_rows(models), markdown=given.markdown)
        certain = [one for one in models if not one.uncertain]
        console.print(f"known pairs in the wrong order without uncertain rows: {wrong_pairs(certain) or 'none'}")
        console.print("largest changes of shipped models:")
        for name, whole, without in largest_changes(every):
            console.print(f"{name}: {whole:.2f} with, {without:.2f} without uncertain rows")
        return
    left_out = leave_one_out(models, models)
    rows = [[label, *figures(some)] for label, some in groups_of(left_out)]
    show(console, "one model left out", LEFT_OUT_COLUMNS, rows)
    show(console, by_source, SOURCE_COLUMNS, source_rows(models))
    console.print(pair_table(models))
    worst = sorted((one for one in left_out if _is_paper(one.model)), key=lambda one: -abs(one.error))[:8]
    for one in worst:
        console.print(f"{one.model.name}: published {one.model.top1:g}, predicted {one.predicted:.1f}")
    if given.plot:
        plot(left_out, given.plot)


if __name__ == "__main__":
    main()
