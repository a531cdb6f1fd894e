"""How well one judgement foretells another: Kendall's tau-b and Spearman's rho, with bootstrap intervals."""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from t2tbuild.nas.record import Record
from t2tbuild.nas.verdict import LEVEL, Floats, Interval
from t2tbuild.spec.search import ScoreName, Search

RESAMPLES = 1_000
FEWEST = 5
"""Pairs below which nothing is told."""
BAND = 0.05
"""Members whose MACs are within this share of each other's are of equal cost."""

Measure = Callable[[Record], float | None]


@dataclass(frozen=True)
class Correlation:
    """Two judgements of the same candidates: of all of them, and of those of nearly equal MACs."""

    first: str
    second: str
    pairs: int
    tau: Interval | None
    rho: Interval | None
    band_pairs: int
    band_tau: Interval | None


def correlate(records: Sequence[Record], first: tuple[str, Measure], second: tuple[str, Measure]) -> Correlation:
    """The rank correlation of two measures over the records that have both."""
    both = [record for record in records if first[1](record) is not None and second[1](record) is not None]
    band = equal_macs(both)
    x, y = _values(both, first[1]), _values(both, second[1])
    return Correlation(
        first[0],
        second[0],
        len(both),
        interval(x, y, kendall),
        interval(x, y, spearman),
        len(band),
        interval(_values(band, first[1]), _values(band, second[1]), kendall),
    )


def equal_macs(records: Sequence[Record]) -> list[Record]:
    """The largest group of records whose MACs lie within BAND of its largest."""
    counted = sorted((record for record in records if record.macs), key=lambda record: record.macs or 0)
    macs = [record.macs or 0 for record in counted]
    ends = [(bisect_left(macs, (1 - BAND) * most), bisect_right(macs, most)) for most in macs]
    first, last = max(ends, key=lambda end: end[1] - end[0], default=(0, 0))
    return counted[first:last]


def interval(x: Sequence[float], y: Sequence[float], statistic: "Statistic") -> Interval | None:
    """A rank correlation with its bootstrap interval; None of too few pairs, or where one side is constant."""
    if len(x) < FEWEST or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    a, b = np.asarray(x), np.asarray(y)
    counts = np.random.default_rng(0).multinomial(len(a), np.full(len(a), 1 / len(a)), RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        (value,), found = statistic(a, b, np.ones((1, len(a)))), statistic(a, b, counts.astype(float))
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))


Statistic = Callable[[Floats, Floats, Floats], Floats]
"""Samples x and y, [n], and how often each is in a resample, [resamples, n], to a value for each resample."""


def kendall(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Kendall's tau-b: concordant less discordant pairs, over the geometric mean of those that are not tied in x or y.

    scipy's `kendalltau` takes one sample at a time, which for a thousand resamples of forty pairs of measures is long.
    """
    above, beyond = (np.sign(one[:, None] - one[None, :]) for one in (x, y))

    def pairs(signs: Floats) -> Floats:
        total: Floats = ((counts @ signs) * counts).sum(axis=1)
        return total

    return np.asarray(pairs(above * beyond) / np.sqrt(pairs(np.abs(above)) * pairs(np.abs(beyond))))


def spearman(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Spearman's rho: the correlation of ranks, those of ties their mean."""

    def centred(one: Floats) -> Floats:
        below, same = one[:, None] > one[None, :], one[:, None] == one[None, :]
        ranks = counts @ below.T + (counts @ same.T + 1) / 2
        return np.asarray(ranks - (ranks * counts).sum(axis=1, keepdims=True) / counts.sum(axis=1, keepdims=True))

    a, b = centred(x), centred(y)
    return np.asarray((counts * a * b).sum(axis=1) / np.sqrt((counts * a**2).sum(axis=1) * (counts * b**2).sum(axis=1)))


def _values(records: Sequence[Record], measure: Measure) -> list[float]:
    return [float(measure(record) or 0.0) for record in records]


def rung_score(steps: int, metric: str) -> Measure:
    """What a record is judged by at a rung."""

    def measure(record: Record) -> float | None:
        rung = record.at(steps)
        return None if rung is None else rung.score(metric)

    return measure


def shape_measures() -> Mapping[str, Measure]:
    """What a short training might favour for reasons of its own."""
    return {
        "depth": lambda record: record.model.backbone.depth if record.model else None,
        "embed_dim": lambda record: record.model.backbone.embed_dim if record.model else None,
        "params": lambda record: record.params,
        "macs": lambda record: record.macs,
    }


def all_correlations(records: Sequence[Record], rungs: Sequence[int], metric: str) -> list[Correlation]:
    """Every cheap score with every rung, every rung with the next, and every rung with the candidates' shape."""
    scores = sorted({name for record in records for name in record.scores})
    at = {f"rung {steps}": rung_score(steps, metric) for steps in rungs}
    found = []
    for name in scores:
        found += [correlate(records, (name, _score(name)), rung) for rung in at.items()]
    pairs = list(at.items())
    found += [correlate(records, first, second) for first, second in itertools.pairwise(pairs)]
    for shape in shape_measures().items():
        found += [correlate(records, shape, rung) for rung in at.items()]
    return found


def _score(name: str) -> Measure:
    return lambda record: record.scores.get(name)


def trusted_score(records: Sequence[Record], search: Search) -> ScoreName | None:
    """The cheap score that, among these candidates, foretells the highest rung best; None where none has earned it.

    It has when, within the band of nearly equal MACs, the lower end of its interval lies above the spec's threshold.
    """
    scores, proxy = search.scores, search.proxy
    if scores.threshold is None or scores.pool == 1:
        return None
    top = [record for record in records if record.at(proxy.rungs[-1]) is not None]
    if len(top) < FEWEST:
        return None
    earned: dict[ScoreName, float] = {}
    for name in scores.names:
        rung = (str(proxy.rungs[-1]), rung_score(proxy.rungs[-1], proxy.metric))
        tau = correlate(top, (name, _score(name)), rung).band_tau
        if tau is not None and tau.low is not None and tau.low > scores.threshold:
            earned[name] = tau.low
    return max(earned, key=lambda name: earned[name], default=None)
