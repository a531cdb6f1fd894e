"""What a search has shown, and what it has not: gains with intervals over seeds, and a sentence.

Differences are between mean scores of trainings with seeds of their own. An interval is the bootstrap's (percentile,
10,000 resamples), or Welch's t interval where that is wider, as it is with a handful of seeds: resamples of three
numbers know no more than the three. Since the winner is the best of those that were trained again, by the same
trainings, its intervals hold for all of those at once (Bonferroni).
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from t2tbuild.search.record import BASE, Arm, Record, State, best_of

LEVEL = 0.95
RESAMPLES = 10_000


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

    `gain` is the sampler's lead, its interval from resampling each arm's candidates.
    """

    seconds: float
    sampler: float
    random: float
    gain: Interval


@dataclass(frozen=True)
class Verdict:
    """The winner, what it gains over the base and over random search, and the sentence that follows from it."""

    winner: Record
    gains: tuple[Gain, ...]
    race: Race | None
    sentence: str


def decide(records: Sequence[Record], repeats: Sequence[Record], metric: str) -> Verdict | None:
    """The verdict on candidates and references; None where nothing reached the highest rung."""
    scores = scores_by_key(repeats, metric)
    base = next((record for record in repeats if record.number == BASE), None)
    confirmed = [record for record in records if record.state is State.TOP and record.key in scores]
    if confirmed:
        entrants = [*confirmed, *([base] if base is not None and base.key in scores else [])]
        winner = max(entrants, key=lambda record: (statistics.fmean(scores[record.key]), -(record.macs or 0)))
    else:
        found = best_of([*records, *repeats], metric)
        if found is None:
            return None
        winner = found
    gains: list[Gain] = []
    others = {"the base": base, "the best random candidate": _best_random(records, scores, metric)}
    for over, other in others.items():
        if other is not None and other.key != winner.key and {winner.key, other.key} <= scores.keys():
            mine, theirs = scores[winner.key], scores[other.key]
            gains.append(Gain(over, difference(mine, theirs, len(confirmed)), (len(mine), len(theirs))))
    race = run_race(records, metric)
    return Verdict(winner, tuple(gains), race, _sentence(winner, gains, bool(confirmed), metric))


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


def run_race(records: Sequence[Record], metric: str) -> Race | None:
    """The arms of one search against each other at equal seconds of training; None where one of them has nothing.

    Both arms climb the same ladder, and who comes later is judged against both.
    """
    arms = {arm: _finished(records, arm, metric) for arm in (Arm.SAMPLER, Arm.RANDOM)}
    if not all(arms.values()):
        return None
    seconds = min(sum(cost for cost, _ in arm) for arm in arms.values())
    within = {arm: _within(found, seconds) for arm, found in arms.items()}
    best = {arm: max(scores, default=None) for arm, scores in within.items()}
    mine, theirs = best[Arm.SAMPLER], best[Arm.RANDOM]
    if mine is None or theirs is None:
        return None
    generator = np.random.default_rng(0)
    maxima = [
        generator.choice(within[arm], (RESAMPLES, len(within[arm]))).max(axis=1) for arm in (Arm.SAMPLER, Arm.RANDOM)
    ]
    low, high = np.quantile(maxima[0] - maxima[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Race(seconds, mine, theirs, Interval(mine - theirs, float(low), float(high)))


def _finished(records: Sequence[Record], arm: Arm, metric: str) -> list[tuple[float, float | None]]:
    """Seconds and score of an arm's candidates in the order of asking; no score where the top rung was not reached."""
    trained = [record for record in records if record.arm is arm and record.rungs]
    found = [(record.seconds, record.score(metric) if record.state is State.TOP else None) for record in trained]
    return found if any(score is not None for _, score in found) else []


def _within(found: Sequence[tuple[float, float | None]], seconds: float) -> list[float]:
    spent, scores = 0.0, list[float]()
    for cost, score in found:
        spent += cost
        if spent > seconds * (1 + 1e-9):
            break
        scores += [score] if score is not None else []
    return scores


def _best_random(records: Sequence[Record], scores: dict[str, list[float]], metric: str) -> Record | None:
    by_chance = [record for record in records if record.arm is Arm.RANDOM and record.key in scores]
    return best_of(by_chance, metric)


def _sentence(winner: Record, gains: Sequence[Gain], confirmed: bool, metric: str) -> str:
    """The verdict in words, which claims no more than the intervals do."""
    if not confirmed:
        return "No evidence of improvement: nothing was trained again with other seeds."
    if winner.number == BASE:
        return "No evidence of improvement: no candidate that was trained again beats the base."
    unit = f"validation {metric}"
    shown = [gain for gain in gains if gain.difference.above_zero]
    over_base = next((gain for gain in gains if gain.over == "the base"), None)
    if over_base is None:
        return "No evidence of improvement: the base has no trainings to compare with."
    if over_base not in shown:
        return f"No evidence of improvement: the interval of the gain over the base includes zero ({unit})."
    told = f"Candidate {winner.number} beats the base in {unit} of the proxy beyond the noise of seeds"
    if winner.arm is Arm.RANDOM:
        return f"{told}; chance drew it, so the sampler has shown nothing."
    over_random = [gain for gain in gains if gain.over != "the base"]
    if over_random and over_random[0] in shown:
        return f"{told}, and so it does the best of random search."
    return f"{told}; that the sampler beats random search is not shown."
