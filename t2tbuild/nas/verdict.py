"""The verdict of a search on the proxy's own data: gains with intervals over seeds, and a sentence.

Gains are differences of mean scores between trainings with different seeds. An interval is the percentile bootstrap's
(10,000 resamples), or Welch's t interval where that is wider: with three seeds the bootstrap is too narrow. The winner
is the best of the confirmed candidates by the same trainings, so its intervals are simultaneous for all of them
(Bonferroni).
"""

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from t2tbuild.accuracy.posterior import Posterior
from t2tbuild.accuracy.predictor import Accuracy, Difference
from t2tbuild.nas.learned import describe_not_learned, has_learned
from t2tbuild.nas.old_names import OldVerdictNames
from t2tbuild.nas.record import BASE, Record, Source, State, best_of
from t2tbuild.nas.reference_runs import pooled_seed_std, scores_by_key, trainings_of
from t2tbuild.spec.model import ModelSpec

Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000
MIN_PER_SOURCE = 4
"""With fewer completed candidates of a source, the equal-compute comparison has no interval."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval; `low` and `high` are None where there are too few results, or no spread."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is above zero; false without an interval."""
        return self.low is not None and self.low > 0


@dataclass(frozen=True)
class Gain:
    """The difference of two models' mean scores, and the number of seeds of each."""

    over: str
    difference: Interval
    seeds: tuple[int, int]


@dataclass(frozen=True)
class EqualCompute:
    """The best score of sampled and of random candidates after equal seconds of training, one seed a candidate.

    `gain` is the difference, sampler minus random. Its interval is the bootstrap's over candidates, with seed noise
    added to their scores. There is none where a source has fewer than MIN_PER_SOURCE completed candidates.
    """

    seconds: float
    sampler: float
    random: float
    gain: Interval


@dataclass(frozen=True)
class Equal:
    """A model whose predicted accuracy does not differ significantly from the winner's, and its cost.

    `macs` and `params` are closed-form counts, `memory` the bytes of inference on one image in float32, and `latency`
    the measured seconds of it, None where it was not measured.
    """

    model: ModelSpec
    accuracy: Accuracy
    macs: int
    params: int
    memory: int
    latency: float | None


@dataclass(frozen=True)
class Prediction:
    """The evidence of a verdict on ImageNet accuracy, in percent with 90% intervals.

    `gain` is the winner's over the base, None where the base wins or has no prediction. `equals` are the best of
    `equal_shapes` backbones whose predicted difference from the winner has an interval that includes zero. `reasons`
    are sentences on the nearest published models and on the proxy results.
    """

    winner: Posterior
    base: Posterior | None
    gain: Difference | None
    equals: tuple[Equal, ...]
    equal_shapes: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verdict(OldVerdictNames):
    """The winner, its gains over the base and over random search, and the conclusion as a sentence.

    `prediction` is set where candidates are ranked by predicted ImageNet accuracy; `gains` is empty then.
    """

    winner: Record
    gains: tuple[Gain, ...]
    equal_compute: EqualCompute | None
    sentence: str
    prediction: Prediction | None = None


def decide(
    records: Sequence[Record], reference_runs: Sequence[Record], metric: str, num_classes: int | None = None
) -> Verdict | None:
    """Return the verdict on candidates and reference runs, None where no record is completed.

    `num_classes` is that of the proxy's data; a candidate's own model may have another head. With it, the base wins
    where neither it nor the best candidate has learned more than chance, see `has_learned`.
    """
    scores = scores_by_key(reference_runs, metric)
    base = next((record for record in reference_runs if record.number == BASE), None)
    confirmed = [record for record in records if record.state is State.COMPLETED and record.key in scores]
    if confirmed:
        contenders = [*confirmed, *([base] if base is not None and base.key in scores else [])]
        winner = max(contenders, key=lambda record: (statistics.fmean(scores[record.key]), -(record.macs or 0)))
    else:
        found = best_of([*records, *reference_runs], lambda record: record.score(metric))
        if found is None:
            return None
        winner = found
    if num_classes is not None:
        compared = [winner, *([base] if base is not None else [])]
        trainings = [trainings_of(record, reference_runs) for record in compared]
        if not any(has_learned(runs, num_classes) for runs in trainings if runs):
            return Verdict(base or winner, (), None, describe_not_learned(trainings, num_classes))
    gains: list[Gain] = []
    others = {"the base": base, "the best random candidate": _best_random_candidate(records, scores, metric)}
    for over, other in others.items():
        if other is not None and other.key != winner.key and {winner.key, other.key} <= scores.keys():
            mine, theirs = scores[winner.key], scores[other.key]
            gains.append(Gain(over, mean_difference(mine, theirs, len(confirmed)), (len(mine), len(theirs))))
    top = max(record.steps for record in [*records, *reference_runs])
    seeds = pooled_seed_std(reference_runs, top, metric)
    equal_compute = compare_equal_compute(records, metric, noise=seeds[0] if seeds else 0.0)
    is_base = base is not None and winner.key == base.key
    sentence = _write_sentence(winner, gains, equal_compute, metric, confirmed=bool(confirmed), is_base=is_base)
    return Verdict(winner, tuple(gains), equal_compute, sentence)


def mean_difference(mine: Sequence[float], theirs: Sequence[float], among: int = 1) -> Interval:
    """Return the difference of two means of independent trainings, with the wider of two intervals.

    Where `mine` was chosen as the best of `among` models, the interval is corrected for that number of comparisons.
    There is none without a spread over seeds: where a model has one training only, or all give the same score.
    """
    level = 1 - (1 - LEVEL) / among
    value = statistics.fmean(mine) - statistics.fmean(theirs)
    if min(len(mine), len(theirs)) < 2 or not (statistics.pstdev(mine) or statistics.pstdev(theirs)):
        return Interval(value)
    generator = np.random.default_rng(0)
    means = [generator.choice(one, (RESAMPLES, len(one))).mean(axis=1) for one in (mine, theirs)]
    low, high = np.quantile(means[0] - means[1], [(1 - level) / 2, (1 + level) / 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, where the trainings of one model are all equal
        welch = scipy.stats.ttest_ind(mine, theirs, equal_var=False).confidence_interval(level)
    return Interval(value, float(min(low, welch.low)), float(max(high, welch.high)))


def compare_equal_compute(records: Sequence[Record], metric: str, noise: float = 0.0) -> EqualCompute | None:
    """Compare sampled with random candidates at equal seconds of training; None where one has no completed candidate.

    Both share the scheduler, so pruning compares a candidate with those of both sources. `noise` is the standard
    deviation of one model's scores over seeds.
    """
    sources = [_seconds_and_scores(records, source, metric) for source in (Source.SAMPLER, Source.RANDOM)]
    seconds = min(float(costs.sum()) for costs, _ in sources)
    (mine,), (theirs,) = (_best_after(seconds, costs[None], scores[None]) for costs, scores in sources)
    if not math.isfinite(mine) or not math.isfinite(theirs):
        return None
    gain = Interval(float(mine - theirs))
    if all(np.isfinite(scores).sum() >= MIN_PER_SOURCE for _, scores in sources):
        generator = np.random.default_rng(0)
        best = []
        for costs, scores in sources:
            indices = generator.integers(0, len(costs), (RESAMPLES, len(costs)))
            noisy = scores[indices] + generator.normal(0.0, noise, indices.shape)
            best.append(_best_after(seconds, costs[indices], noisy))
        differences = best[0] - best[1]
        low, high = np.nanquantile(differences[np.isfinite(differences)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        gain = Interval(gain.value, float(low), float(high))
    return EqualCompute(seconds, float(mine), float(theirs), gain)


def _seconds_and_scores(records: Sequence[Record], source: Source, metric: str) -> tuple[Floats, Floats]:
    """Return seconds and scores of a source's candidates in the order of sampling, [n] each; -inf if not completed."""
    trained = [record for record in records if record.source is source and record.rungs]
    scores = [record.score(metric) if record.state is State.COMPLETED else -math.inf for record in trained]
    return np.array([record.seconds for record in trained]), np.array(scores)


def _best_after(seconds: float, costs: Floats, scores: Floats) -> Floats:
    """Return the best score, [resamples], among consecutive candidates, [resamples, n], that end within `seconds`."""
    in_time = np.cumsum(costs, axis=1) <= seconds * (1 + 1e-9)
    return np.asarray(np.where(in_time, scores, -np.inf).max(axis=1, initial=-np.inf))


def _best_random_candidate(records: Sequence[Record], scores: dict[str, list[float]], metric: str) -> Record | None:
    confirmed = [record for record in records if record.source is Source.RANDOM and record.key in scores]
    return best_of(confirmed, lambda record: record.score(metric))


def _write_sentence(
    winner: Record,
    gains: Sequence[Gain],
    equal_compute: EqualCompute | None,
    metric: str,
    *,
    confirmed: bool,
    is_base: bool,
) -> str:
    """Return the verdict as a sentence that claims no more than the intervals show."""
    if not confirmed:
        return "No evidence of improvement: no candidate was retrained with new seeds."
    if is_base:
        return "No evidence of improvement: no candidate that was retrained with new seeds beats the base."
    unit = f"validation {metric}"
    shown = [gain for gain in gains if gain.difference.above_zero]
    over_base = next((gain for gain in gains if gain.over == "the base"), None)
    if over_base is None:
        return "No evidence of improvement: the base has no trainings to compare with."
    if over_base.difference.low is None:
        few = min(over_base.seeds) < 2
        reason = "too few seeds to estimate the noise" if few else "no spread is known, all seeds gave the same results"
        return f"No evidence of improvement: {reason}."
    if over_base not in shown:
        best = f"Candidate {winner.number} wins with the best mean {unit} of the retrained"
        return f"No evidence of improvement over the base. {best}, but the interval of its gain includes zero."
    message = f"Candidate {winner.number} beats the base in {unit} after these trainings by more than seed noise"
    if winner.source is Source.RANDOM:
        return f"{message}; it was sampled at random, so there is no evidence for the sampler."
    over_random = [gain for gain in gains if gain.over != "the base"]
    if over_random and over_random[0] in shown and equal_compute is not None and equal_compute.gain.above_zero:
        return f"{message}. The sampler also beats random search at equal training time."
    return f"{message}; there is no evidence that the sampler beats random search."
