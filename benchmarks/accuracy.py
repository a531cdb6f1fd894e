"""Measure the error of predict_accuracy: python benchmarks/accuracy.py [--reserved] [--plot docs/accuracy.png].

Three tests, each on models that the predictor was not fitted to:

- one row left out, of the T2T paper's and DeiT's rows, and of all;
- a whole source left out. The offsets of its recipes are unknown then and are subtracted, which leaves the order and
  the distances within the source;
- with --reserved, the reserved sources, which were not used in choosing features or priors, fitted without them.

Also the pairs whose order on ImageNet is known, each predicted by a predictor that was fitted without both models.

The first two tests leave the reserved sources out of the fit, too.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from t2tbuild.accuracy.features import shape_of
from t2tbuild.accuracy.fit import fit_predictor, imagenet_models
from t2tbuild.accuracy.pairs import KNOWN_PAIRS
from t2tbuild.accuracy.predictor import Z_90
from t2tbuild.accuracy.published import PublishedModel, reserved_sources
from t2tbuild.report.figure import BLUE, ORANGE, new_figure

DEIT = ("deit_300", "deit_300_disttoken")
"""DeiT's rows: its three sizes without and with the distillation token."""


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
    """Return the number of models, Kendall's tau, the mean error in points, and the coverage of the intervals."""
    tau = stats.kendalltau([one.predicted for one in found], [one.model.top1 for one in found]).statistic
    error = np.mean([abs(one.error) for one in found])
    return [str(len(found)), f"{tau:.2f}", f"{error:.2f}", f"{np.mean([one.held for one in found]):.0%}"]


def pair_table(models: Sequence[PublishedModel]) -> Table:
    table = Table(title="pairs whose order is known, fitted without both models", title_justify="left")
    for column in ("better", "than", "published", "predicted"):
        table.add_column(column, justify="left" if column in ("better", "than") else "right")
    for pair in KNOWN_PAIRS:
        rest = [one for one in models if (one.source, one.name) not in (pair.better, pair.worse)]
        predictor = fit_predictor(rest, min_models=1)
        both = [next(one for one in models if (one.source, one.name) == name) for name in (pair.better, pair.worse)]
        better, worse = (shape_of(one.model) for one in both)
        gain = predictor.difference(better, worse, pair.recipe)
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


def _is_paper(model: PublishedModel) -> bool:
    return model.source == "t2t" or (model.source == "deit" and model.recipe.name in DEIT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reserved", action="store_true")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    console = Console(width=120)
    every, reserved = imagenet_models(), reserved_sources()
    models = [one for one in every if one.source not in reserved]
    if given.reserved:
        table = Table(title="reserved sources, fitted without them; offsets taken off", title_justify="left")
        for column in ("source", "models", "tau", "mean error", "intervals hold"):
            table.add_column(column, justify="left" if column == "source" else "right")
        total = []
        for source in sorted(reserved):
            found = leave_source_out([*models], [one for one in every if one.source == source])
            total += found
            table.add_row(source, *figures(found))
        table.add_row("all", *figures(total))
        console.print(table)
        return
    left_out = leave_one_out(models, models)
    table = Table(title="one model left out", title_justify="left")
    for column in ("models of", "models", "tau", "mean error", "intervals hold"):
        table.add_column(column, justify="left" if column == "models of" else "right")
    for label, some in (
        ("the T2T paper and DeiT", [one for one in left_out if _is_paper(one.model)]),
        ("the T2T paper", [one for one in left_out if one.model.source == "t2t"]),
        ("all sources", left_out),
    ):
        table.add_row(label, *figures(some))
    console.print(table)
    table = Table(title="a source left out, its recipes' offsets taken off", title_justify="left")
    for column in ("source", "models", "tau", "mean error", "intervals hold"):
        table.add_column(column, justify="left" if column == "source" else "right")
    total = []
    for source in dict.fromkeys(one.source for one in models):
        found = leave_source_out(models, [one for one in models if one.source == source])
        total += found
        if len(found) >= 3:
            table.add_row(source, *figures(found))
    table.add_row("all", *figures(total))
    console.print(table)
    console.print(pair_table(models))
    worst = sorted((one for one in left_out if _is_paper(one.model)), key=lambda one: -abs(one.error))[:8]
    for one in worst:
        console.print(f"{one.model.name}: published {one.model.top1:g}, predicted {one.predicted:.1f}")
    if given.plot:
        plot(left_out, given.plot)


if __name__ == "__main__":
    main()
