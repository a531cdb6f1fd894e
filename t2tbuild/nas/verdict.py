"""What a search has shown, and what it has not: gains with intervals over seeds, and a sentence.

Differences are between mean scores of trainings with seeds of their own. An interval is the bootstrap's (percentile,
10,000 resamples), or Welch's t interval where that is wider, as it is with a handful of seeds: resamples of three
numbers know no more than the three. Since the winner is the best of those that were trained again, by the same
trainings, its intervals hold for all of those at once (Bonferroni).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from t2tbuild.accuracy.posterior import Belief
from t2tbuild.accuracy.predictor import Accuracy, Difference
from t2tbuild.nas.record import BASE, Record, Source, State, best_of
from t2tbuild.nas.reference_runs import seed_spread
from t2tbuild.spec.model import ModelSpec

Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000
FEWEST = 4
"""Candidates of an arm at the top below which a race tells no interval."""


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95% interval; without ends where there is too little to tell."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def above_zero(self) -> bool:
        return self.low is not None and self.low > 0


@dataclass(frozen=True)
class Gain:
    """By how much one model's trainings beat another's, in what the search judges by."""

    over: str
    difference: Interval
    seeds: tuple[int, int]


@dataclass(frozen=True)
class Race:
    """The best score of each arm after equal seconds of training, one seed a candidate.

    `gain` is the sampler's lead. Its interval comes from racing resampled candidates of each arm, with the noise of
    seeds added to their scores; there is none where fewer than FEWEST of an arm reached the top.
    """

    seconds: float
    sampler: float
    random: float
    gain: Interval


@dataclass(frozen=True)
class Equal:
    """A member whose accuracy is not predicted to be below the winner's, and what there is to choose it by.

    MACs and parameters by the closed form, `memory` the bytes of an inference on one image in float32, `latency` the
    measured seconds of one, None where it was not measured.
    """

    model: ModelSpec
    accuracy: Accuracy
    macs: int
    params: int
    memory: int
    latency: float | None


@dataclass(frozen=True)
class Prediction:
    """What a verdict on ImageNet rests on: in percent, with 90% intervals.

    `gain` is the winner's over the base, None where the base wins or has no prediction. `equals` are the best of
    `equal_shapes` backbones whose predicted difference from the winner has an interval that includes zero, `reasons`
    the published models and the results of the proxy, in sentences.
    """

    winner: Belief
    base: Belief | None
    gain: Difference | None
    equals: tuple[Equal, ...]
    equal_shapes: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """The winner, what it gains over the base and over random search, and the sentence that follows from it.

    `prediction` is there where candidates are ranked by predicted ImageNet accuracy; there are no gains then.
    """

    winner: Record
    gains: tuple[Gain, ...]
    race: Race | None
    sentence: str
    prediction: Prediction | None = None


def decide(records: Sequence[Record], repeats: Sequence[Record], metric: str) -> Verdict | None:
    """The verdict on candidates and references; None where nothing reached the highest rung."""
    scores = scores_by_key(repeats, metric)
    base = next((record for record in repeats if record.number == BASE), None)
    confirmed = [record for record in records if record.state is State.TOP and record.key in scores]
    if confirmed:
        entrants = [*confirmed, *([base] if base is not None and base.key in scores else [])]
        winner = max(entrants, key=lambda record: (statistics.fmean(scores[record.key]), -(record.macs or 0)))
    else:
        found = best_of([*records, *repeats], lambda record: record.score(metric))
        if found is None:
            return None
        winner = found
    gains: list[Gain] = []
    others = {"the base": base, "the best random candidate": _best_random(records, scores, metric)}
    for over, other in others.items():
        if other is not None and other.key != winner.key and {winner.key, other.key} <= scores.keys():
            mine, theirs = scores[winner.key], scores[other.key]
            gains.append(Gain(over, difference(mine, theirs, len(confirmed)), (len(mine), len(theirs))))
    top = max(record.steps for record in [*records, *repeats])
    seeds = seed_spread(repeats, top, metric)
    race = run_race(records, metric, noise=seeds[0] if seeds else 0.0)
    is_base = base is not None and winner.key == base.key
    sentence = _sentence(winner, gains, race, metric, confirmed=bool(confirmed), is_base=is_base)
    return Verdict(winner, tuple(gains), race, sentence)


def scores_by_key(repeats: Sequence[Record], metric: str) -> dict[str, list[float]]:
    """The scores of each confirmed model, one for each seed; of the candidates themselves where those were trained."""
    top = [record for record in repeats if record.state is State.TOP]
    full = [record for record in top if record.full]
    found: dict[str, list[float]] = {}
    for record in full or top:
        found.setdefault(record.key, []).append(record.score(metric))
    return found


def difference(mine: Sequence[float], theirs: Sequence[float], among: int = 1) -> Interval:
    """The difference of two means of independent trainings, with the wider of two intervals.

    Where `mine` is the best `among` several, the interval is as much wider as makes it hold for each of them at once.
    """
    level = 1 - (1 - LEVEL) / among
    value = statistics.fmean(mine) - statistics.fmean(theirs)
    if min(len(mine), len(theirs)) < 2:
        return Interval(value)
    generator = np.random.default_rng(0)
    means = [generator.choice(one, (RESAMPLES, len(one))).mean(axis=1) for one in (mine, theirs)]
    low, high = np.quantile(means[0] - means[1], [(1 - level) / 2, (1 + level) / 2])
    if statistics.pstdev(mine) or statistics.pstdev(theirs):
        welch = stats.ttest_ind(mine, theirs, equal_var=False).confidence_interval(level)
        low, high = min(low, welch.low), max(high, welch.high)
    return Interval(value, float(low), float(high))


def run_race(records: Sequence[Record], metric: str, noise: float = 0.0) -> Race | None:
    """The arms of one search against each other at equal seconds of training; None where one of them has nothing.

    Both arms climb the same ladder, and who comes later is judged against both. `noise` is the standard deviation of
    one model's scores over seeds.
    """
    arms = [_costs_and_scores(records, arm, metric) for arm in (Source.SAMPLER, Source.RANDOM)]
    seconds = min(float(costs.sum()) for costs, _ in arms)
    (mine,), (theirs,) = (_best_after(seconds, costs[None], scores[None]) for costs, scores in arms)
    if not math.isfinite(mine) or not math.isfinite(theirs):
        return None
    gain = Interval(float(mine - theirs))
    if all(np.isfinite(scores).sum() >= FEWEST for _, scores in arms):
        generator = np.random.default_rng(0)
        raced = []
        for costs, scores in arms:
            drawn = generator.integers(0, len(costs), (RESAMPLES, len(costs)))
            shaken = scores[drawn] + generator.normal(0.0, noise, drawn.shape)
            raced.append(_best_after(seconds, costs[drawn], shaken))
        leads = raced[0] - raced[1]
        low, high = np.nanquantile(leads[np.isfinite(leads)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        gain = Interval(gain.value, float(low), float(high))
    return Race(seconds, float(mine), float(theirs), gain)


def _costs_and_scores(records: Sequence[Record], arm: Source, metric: str) -> tuple[Floats, Floats]:
    """Seconds and scores of an arm's candidates in the order of asking, [n] each; -inf below the top rung."""
    trained = [record for record in records if record.arm is arm and record.rungs]
    scores = [record.score(metric) if record.state is State.TOP else -math.inf for record in trained]
    return np.array([record.seconds for record in trained]), np.array(scores)


def _best_after(seconds: float, costs: Floats, scores: Floats) -> Floats:
    """The best scores, [resamples], of candidates that follow each other, [resamples, n], until the time is up."""
    in_time = np.cumsum(costs, axis=1) <= seconds * (1 + 1e-9)
    return np.asarray(np.where(in_time, scores, -np.inf).max(axis=1, initial=-np.inf))


def _best_random(records: Sequence[Record], scores: dict[str, list[float]], metric: str) -> Record | None:
    by_chance = [record for record in records if record.arm is Source.RANDOM and record.key in scores]
    return best_of(by_chance, lambda record: record.score(metric))


def _sentence(
    winner: Record, gains: Sequence[Gain], race: Race | None, metric: str, *, confirmed: bool, is_base: bool
) -> str:
    """The verdict in words, which claims no more than the intervals do."""
    if not confirmed:
        return "No evidence of improvement: nothing was trained again with other seeds."
    if is_base:
        return "No evidence of improvement: no candidate that was trained again beats the base."
    unit = f"validation {metric}"
    shown = [gain for gain in gains if gain.difference.above_zero]
    over_base = next((gain for gain in gains if gain.over == "the base"), None)
    if over_base is None:
        return "No evidence of improvement: the base has no trainings to compare with."
    if over_base.difference.low is None:
        return "No evidence of improvement: too few trainings with several seeds to tell the noise."
    if over_base not in shown:
        return f"No evidence of improvement: the interval of the gain over the base includes zero ({unit})."
    message = f"Candidate {winner.number} beats the base in {unit} of the proxy beyond the noise of seeds"
    if winner.arm is Source.RANDOM:
        return f"{message}; chance drew it, so the sampler has shown nothing."
    over_random = [gain for gain in gains if gain.over != "the base"]
    if over_random and over_random[0] in shown and race is not None and race.gain.above_zero:
        return f"{message}, and so it does the best that chance drew in as many seconds of training."
    return f"{message}; that the sampler beats random search is not shown."
