"""Test the T2T paper's claims with each kind of evidence: python benchmarks/claims.py --cache FILE [--zero-cost].

Each claim has one or more pairs of the paper's models. For each pair, first minus second: the difference in ImageNet
top-1 that the paper prints; that of the predictor, fitted without both models, with its 90% interval; that of the
default proxy training, -ln(validation loss) after the last rung, two seeds, with a 95% interval from the spread over
seeds of all models; and the zero-cost proxies that are larger for the first, as narrow proxies and at full size.
The cache is that of benchmarks/validity.py. --zero-cost prints for each narrow zero-cost proxy whether the 95% t
interval of its difference, over five seeds of weights and batch, lies above zero (+), below (-), or includes it (0).
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats
from validity import SEEDS, ZERO_COST, ZERO_COST_SEEDS, RatedModel, key_of, narrow_key, paper_models

from t2tbuild.accuracy.features import shape_of
from t2tbuild.accuracy.fit import fit_predictor, imagenet_models
from t2tbuild.accuracy.published import PublishedModel, reserved_sources
from t2tbuild.nas.proxy import resolve_width
from t2tbuild.spec.proxy import Proxy


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and the pairs of models that test it: the first is claimed to be better."""

    text: str
    pairs: tuple[tuple[str, str], ...]


CLAIMS = (
    Claim(
        "deep and narrow beats shallow and wide",
        (("t2t_vit_14", "t2t_vit_14_wide"), ("vit_dn", "vit_s16"), ("vit_dn", "vit_sw")),
    ),
    Claim("T2T beats hard patches", (("t2t_vit_14", "t2t_vit_14_wo_t2t"),)),
    Claim("T2T beats convolutions", (("t2t_vit_14", "t2t_vit_c_14"),)),
    Claim("a Transformer is at least a Performer", (("t2t_vit_t_14", "t2t_vit_14"),)),
    Claim("squeeze-and-excitation helps", (("t2t_vit_14_se", "t2t_vit_14"), ("vit_se", "vit_s16"))),
    Claim("dense connections hurt", (("t2t_vit_dense", "t2t_vit_14"), ("vit_dense", "vit_s16"))),
    Claim("ghost operations compress, at a loss", (("t2t_vit_16_ghost", "t2t_vit_14"), ("vit_ghost", "vit_s16"))),
    Claim("more heads change little", (("t2t_vit_14_resnext", "t2t_vit_14"), ("vit_resnext", "vit_s16"))),
)
COLUMNS = ("claim", "pair", "published", "predictor", "proxy training", "zero-cost, narrow", "zero-cost, full size")


def predicted(models: Sequence[PublishedModel], better: RatedModel, other: RatedModel) -> str:
    """Return the predicted difference in points, fitted without both models."""
    rest = [one for one in models if one not in (better.row, other.row)]
    found = fit_predictor(rest, min_models=1).difference(shape_of(better.model), shape_of(other.model), "t2t")
    return f"{found.value:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def trained(
    cache: Mapping[str, Any], rated: Sequence[RatedModel], better: RatedModel, other: RatedModel, steps: int
) -> str:
    """Return the difference of the proxy trainings, with an interval from the spread over seeds of all models."""
    scores = {one.name: [cache[f"train {seed} {key_of(one.model)}"][str(steps)] for seed in SEEDS] for one in rated}
    variance = float(np.mean([np.var(seeds, ddof=1) for seeds in scores.values()]))
    value = float(np.mean(scores[better.name]) - np.mean(scores[other.name]))
    freedom = len(rated) * (len(SEEDS) - 1)
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(2 * variance / len(SEEDS))
    return f"{value:+.2f} ({value - half:+.2f} to {value + half:+.2f})"


def signs(cache: Mapping[str, Any], place: str, better: RatedModel, other: RatedModel) -> str:
    """Return the zero-cost proxies with a larger value for the first model."""
    values = [cache[f"{place} {key_of(one.model)}"] for one in (better, other)]
    above = [name for name in ZERO_COST if values[0][name] > values[1][name]]
    return ", ".join(above) or "none"


def interval_sign(differences: Sequence[float]) -> str:
    """Return on which side of zero the 95% t interval of the mean lies: +, - or 0."""
    mean, half = float(np.mean(differences)), 0.0
    if (error := float(stats.sem(differences))) > 0:
        half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return "0" if abs(mean) <= half or mean == 0 else "+" if mean > 0 else "-"


def zero_cost_rows(cache: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the sign of each narrow zero-cost proxy on each pair."""
    named = {one.name.removeprefix("t2t "): key_of(one.model) for one in paper_models(imagenet_models())}
    found = []
    for claim in CLAIMS:
        for pair in claim.pairs:
            cells = []
            for name in ZERO_COST:
                values = [[cache[narrow_key(named[one], seed)][name] for seed in ZERO_COST_SEEDS] for one in pair]
                cells.append(interval_sign(np.subtract(*values).tolist()))
            found.append((claim.text if pair is claim.pairs[0] else "", f"{pair[0]} - {pair[1]}", *cells))
    return found


def rows(cache: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells of the table."""
    published = [one for one in imagenet_models() if one.source not in reserved_sources()]
    rated = paper_models(published)
    named = {one.name.removeprefix("t2t "): one for one in rated}
    steps = resolve_width(Proxy(), "cpu").rungs[-1]
    found = []
    for claim in CLAIMS:
        for names in claim.pairs:
            better, other = (named[name] for name in names)
            found.append(
                (
                    claim.text if names is claim.pairs[0] else "",
                    f"{names[0]} - {names[1]}",
                    f"{better.top1 - other.top1:+.1f}",
                    predicted(published, better, other),
                    trained(cache, rated, better, other, steps),
                    signs(cache, "narrow", better, other),
                    signs(cache, "full", better, other),
                )
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--zero-cost", action="store_true")
    given = parser.parse_args()
    cache = json.loads(given.cache.read_text())
    cells = zero_cost_rows(cache) if given.zero_cost else rows(cache)
    columns = ("claim", "pair", *ZERO_COST) if given.zero_cost else COLUMNS
    if given.markdown:
        for row in (columns, ("---",) * len(columns), *cells):
            print(f"| {' | '.join(row)} |")
        return
    table = Table(
        title="differences: published and predicted in points of top-1, proxies as they are; zero-cost: above"
    )
    for column in columns:
        table.add_column(column)
    for row in cells:
        table.add_row(*row)
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
