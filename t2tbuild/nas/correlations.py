"""Rank correlations between measures of candidates: Kendall's tau-b and Spearman's rho, with bootstrap intervals."""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from t2tbuild.nas.record import Record
from t2tbuild.nas.verdict import LEVEL, Floats, Interval
from t2tbuild.spec.search import Search, ZeroCostName

RESAMPLES = 1_000
MIN_PAIRS = 5
"""With fewer candidates no correlation is computed."""
MACS_TOLERANCE = 0.05
"""Candidates whose MACs differ by at most this share count as equal in cost."""

Measure = Callable[[Record], float | None]


@dataclass(frozen=True)
class Correlation:
    """The rank correlation of two measures over all candidates, and (`band_*`) over those of nearly equal MACs."""

    first: str
    second: str
    pairs: int
    tau: Interval | None
    rho: Interval | None
    band_pairs: int
    band_tau: Interval | None


def correlate(records: Sequence[Record], first: tuple[str, Measure], second: tuple[str, Measure]) -> Correlation:
    """Return the rank correlation of two named measures over the records that have both."""
    both = [record for record in records if first[1](record) is not None and second[1](record) is not None]
    band = largest_equal_macs_group(both)
    x, y = _values(both, first[1]), _values(both, second[1])
    return Correlation(
        first[0],
        second[0],
        len(both),
        bootstrap_interval(x, y, kendall),
        bootstrap_interval(x, y, spearman),
        len(band),
        bootstrap_interval(_values(band, first[1]), _values(band, second[1]), kendall),
    )


def largest_equal_macs_group(records: Sequence[Record]) -> list[Record]:
    """Return the largest group of records whose MACs are within MACS_TOLERANCE of the largest in the group."""
    counted = sorted((record for record in records if record.macs), key=lambda record: record.macs or 0)
    macs = [record.macs or 0 for record in counted]
    ends = [(bisect_left(macs, (1 - MACS_TOLERANCE) * most), bisect_right(macs, most)) for most in macs]
    first, last = max(ends, key=lambda end: end[1] - end[0], default=(0, 0))
    return counted[first:last]


def bootstrap_interval(x: Sequence[float], y: Sequence[float], statistic: "Statistic") -> Interval | None:
    """Return a rank correlation with its bootstrap interval, None with too few pairs or a constant side."""
    if len(x) < MIN_PAIRS or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    a, b = np.asarray(x), np.asarray(y)
    counts = np.random.default_rng(0).multinomial(len(a), np.full(len(a), 1 / len(a)), RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        (value,), found = statistic(a, b, np.ones((1, len(a)))), statistic(a, b, counts.astype(float))
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))


Statistic = Callable[[Floats, Floats, Floats], Floats]
"""A function of samples x and y, [n], and their counts in each resample, [resamples, n], to values, [resamples]."""


def kendall(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Return Kendall's tau-b of each resample: concordant minus discordant pairs, normalised by the untied pairs.

    scipy's `kendalltau` gives the same values but is not vectorised: it takes 1.9 s for 1,000 resamples of 60
    candidates, this function 20 ms; for 2,000 candidates they take 3.1 s and 2.4 s. A report has about a hundred such
    intervals.
    """
    signs_x, signs_y = (np.sign(one[:, None] - one[None, :]) for one in (x, y))

    def pairs(signs: Floats) -> Floats:
        total: Floats = ((counts @ signs) * counts).sum(axis=1)
        return total

    return np.asarray(pairs(signs_x * signs_y) / np.sqrt(pairs(np.abs(signs_x)) * pairs(np.abs(signs_y))))


def spearman(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Return Spearman's rho of each resample: Pearson's correlation of scipy's ranks, ties with their mean rank."""
    size = len(x)
    indices = np.repeat(np.tile(np.arange(size), len(counts)), counts.ravel().astype(int)).reshape(-1, size)
    ranks = [scipy.stats.rankdata(one[indices], axis=1) for one in (x, y)]
    a, b = (one - one.mean(axis=1, keepdims=True) for one in ranks)
    return np.asarray((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1)))


def _values(records: Sequence[Record], measure: Measure) -> list[float]:
    return [float(measure(record) or 0.0) for record in records]


def rung_score(steps: int, metric: str) -> Measure:
    """Return the measure of a record's score at a rung."""

    def measure(record: Record) -> float | None:
        rung = record.at(steps)
        return None if rung is None else rung.score(metric)

    return measure


def shape_measures() -> Mapping[str, Measure]:
    """Return the measures of shape and size that a short training might favour."""
    return {
        "depth": lambda record: record.model.backbone.depth if record.model else None,
        "embed_dim": lambda record: record.model.backbone.embed_dim if record.model else None,
        "params": lambda record: record.params,
        "macs": lambda record: record.macs,
    }


def compute_correlations(records: Sequence[Record], rungs: Sequence[int], metric: str) -> list[Correlation]:
    """Return the correlations of zero-cost proxies with rungs, of rungs with the next, and of shape with rungs."""
    scores = sorted({name for record in records for name in record.scores})
    at = {f"rung {steps}": rung_score(steps, metric) for steps in rungs}
    found = []
    for name in scores:
        found += [correlate(records, (name, _zero_cost_measure(name)), rung) for rung in at.items()]
    pairs = list(at.items())
    found += [correlate(records, first, second) for first, second in itertools.pairwise(pairs)]
    for shape in shape_measures().items():
        found += [correlate(records, shape, rung) for rung in at.items()]
    return found


def _zero_cost_measure(name: str) -> Measure:
    return lambda record: record.scores.get(name)


def select_zero_cost_proxy(records: Sequence[Record], search: Search) -> ZeroCostName | None:
    """Return the zero-cost proxy that correlates best with the highest rung among these candidates.

    None where for no proxy the lower end of tau's interval, among candidates of nearly equal MACs, is above the spec's
    threshold.
    """
    scores, proxy = search.zero_cost, search.proxy
    if scores.threshold is None or scores.pool == 1:
        return None
    top = [record for record in records if record.at(proxy.rungs[-1]) is not None]
    if len(top) < MIN_PAIRS:
        return None
    lower_ends: dict[ZeroCostName, float] = {}
    for name in scores.names:
        rung = (str(proxy.rungs[-1]), rung_score(proxy.rungs[-1], proxy.metric))
        tau = correlate(top, (name, _zero_cost_measure(name)), rung).band_tau
        if tau is not None and tau.low is not None and tau.low > scores.threshold:
            lower_ends[name] = tau.low
    return max(lower_ends, key=lambda name: lower_ends[name], default=None)
