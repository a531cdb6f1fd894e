"""What inheritance was worth: how far inherited weights rank members as trainings alone do, and whether they decide."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from t2tbuild.nas.correlations import MIN_PAIRS, Correlation, Measure, correlate, rung_score, shape_measures
from t2tbuild.nas.record import Record, Rung, State
from t2tbuild.nas.supernet.results import ConfirmedResult, StandaloneResult
from t2tbuild.nas.verdict import LEVEL, Interval, mean_difference
from t2tbuild.spec.model import ModelSpec

INHERITED, ALONE = "inherited", "trained alone"
BASELINES = ("macs", "params", "depth", "embed_dim", "depth x ln(width)")
"""Measures that need no training. The supernet must rank members better than each of them."""


@dataclass(frozen=True)
class Validity:
    """How far inherited weights rank random members as trainings alone do, by Kendall's tau with its interval.

    `metric` is what was compared, `members` how many members have both results, `baselines` the correlations of the
    measures that need no training with the same trainings.
    """

    metric: str
    members: int
    inherited: Correlation
    baselines: tuple[Correlation, ...]

    @property
    def best_baseline(self) -> Correlation | None:
        """The baseline whose tau is the farthest from zero, None where none has one.

        One of -0.8 ranks members as well as one of 0.8: the order is reversed.
        """
        known = [one for one in self.baselines if one.tau is not None]
        return max(known, key=lambda one: abs(one.tau.value) if one.tau else 0.0, default=None)


@dataclass(frozen=True)
class Worth:
    """What inheritance was worth in trainings of equal length, by the score of the proxy's metric.

    `start` is the mean gain of inherited over randomly initialised weights, over `members` members, each with itself;
    `best` the gain of the best members over random ones, all from randomly initialised weights.
    """

    metric: str
    members: int
    start: Interval | None
    best: Interval | None


@dataclass(frozen=True)
class SupernetVerdict:
    """Whether the supernet decides which candidates are trained, why, and the conclusion as a sentence."""

    decides: bool
    reason: str
    sentence: str
    validity: Validity | None
    worth: Worth | None


def measure_validity(results: Sequence[StandaloneResult], models: Sequence[ModelSpec], metric: str) -> Validity | None:
    """Return the correlations of random members' inherited and stand-alone results; None with fewer than MIN_PAIRS.

    Args:
        results: The members that were trained alone.
        models: Their models.
        metric: accuracy or loss.
    """
    records = [
        _to_record(one, model, metric)
        for one, model in zip(results, models, strict=True)
        if math.isfinite(one.loss) and math.isfinite(one.inherited_loss)
    ]
    if len(records) < MIN_PAIRS:
        return None
    measures: dict[str, Measure] = dict(shape_measures())
    measures["depth x ln(width)"] = _depth_and_width
    alone = (ALONE, rung_score(1, metric))
    baselines = tuple(correlate(records, (name, measures[name]), alone) for name in BASELINES)
    inherited = correlate(records, (INHERITED, lambda record: record.scores[INHERITED]), alone)
    return Validity(metric, len(records), inherited, baselines)


def _to_record(result: StandaloneResult, model: ModelSpec, metric: str) -> Record:
    rung = Rung(1, result.accuracy, result.loss, result.seconds)
    inherited = Rung(1, result.inherited_accuracy, result.inherited_loss, 0.0).score(metric)
    return Record(
        result.key,
        State.COMPLETED,
        model,
        key=result.key,
        macs=result.macs,
        params=result.params,
        scores={INHERITED: inherited},
        rungs=(rung,),
    )


def _depth_and_width(record: Record) -> float | None:
    if record.model is None:
        return None
    return record.model.backbone.num_blocks * math.log(record.model.backbone.embed_dim)


def measure_worth(results: Sequence[ConfirmedResult], metric: str) -> Worth | None:
    """Return what inheritance was worth in confirmation; None where no member was trained from both weights."""
    scores = {
        start: {
            one.key: Rung(1, one.accuracy, one.loss, 0.0).score(metric)
            for one in results
            if one.start == start and math.isfinite(one.loss)
        }
        for start in ("inherited", "fresh")
    }
    both = [key for key in scores["inherited"] if key in scores["fresh"]]
    if not both:
        return None
    gains = [scores["inherited"][key] - scores["fresh"][key] for key in both]
    by_why = {
        why: [
            scores["fresh"][one.key] for one in results if one.why == why and one.start == "fresh" and one.key in both
        ]
        for why in ("best", "random")
    }
    best = mean_difference(by_why["best"], by_why["random"]) if all(by_why.values()) else None
    return Worth(metric, len(both), _mean(gains), best)


def _mean(values: Sequence[float]) -> Interval:
    """Return the mean of values with Student's t interval; none for fewer than three, or without a spread."""
    mean = statistics.fmean(values)
    if len(values) < 3 or not statistics.pstdev(values):
        return Interval(mean)
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * scipy.stats.sem(np.asarray(values))
    return Interval(mean, mean - float(half), mean + float(half))


def decide(validity: Validity | None, worth: Worth | None, target: str, sampler: str) -> SupernetVerdict:
    """Return whether the supernet decides, by the lower ends of its intervals, and the sentence on its worth."""
    reason = _find_doubt(validity, target, sampler)
    decides = reason == ""
    outcome = "its best members were the candidates of the sampler" if decides else f"it decided nothing: {reason}"
    parts = [f"Supernet: {outcome}", *_describe_validity(validity), *_describe_worth(worth)]
    return SupernetVerdict(decides, reason, "; ".join(parts) + ".", validity, worth)


def decide_failed(error: str) -> SupernetVerdict:
    """Return that a supernet whose training failed decides nothing."""
    reason = f"its training failed: {error}"
    return SupernetVerdict(False, reason, f"Supernet: it decided nothing: {reason}.", None, None)


def _find_doubt(validity: Validity | None, target: str, sampler: str) -> str:
    """Return why the supernet may not decide; empty if it may."""
    if target == "imagenet":
        return "inherited weights on the proxy's data say nothing of ImageNet"
    if sampler in ("random", "brute_force"):
        return f"search.sampler is {sampler}"
    if validity is None or validity.inherited.tau is None:
        return f"fewer than {MIN_PAIRS} members were trained alone, or all with the same result"
    found, best = validity.inherited, validity.best_baseline
    assert found.tau is not None
    if not found.tau.above_zero:
        return "the interval of its rank correlation is not above zero"
    if found.band_pairs >= MIN_PAIRS and (found.band_tau is None or not found.band_tau.above_zero):
        return "the interval of its rank correlation at equal MACs is not above zero"
    if best is not None and best.tau is not None and abs(best.tau.value) >= found.tau.value:
        return f"{best.first} alone ranks members as well"
    return ""


def _describe_validity(validity: Validity | None) -> list[str]:
    if validity is None or validity.inherited.tau is None:
        return []
    found = validity.inherited
    text = f"inherited {validity.metric} and that of trainings alone have Kendall's tau {_interval(found.tau)}"
    text += f" over {validity.members} random members"
    if found.band_tau is not None:
        text += f", {_interval(found.band_tau)} over {found.band_pairs} of equal MACs"
    best = validity.best_baseline
    if best is not None and best.tau is not None:
        text += f", and {best.first} alone {best.tau.value:+.2f}"
    return [text]


def _describe_worth(worth: Worth | None) -> list[str]:
    if worth is None or worth.start is None:
        return []
    unit = "accuracy" if worth.metric == "accuracy" else "-ln(loss)"
    members = f"{worth.members} members" if worth.members > 1 else "1 member"
    parts = [f"inherited weights changed {unit} after trainings of equal length by {_signed(worth.start)} ({members})"]
    if worth.best is not None:
        parts.append(f"its best members differ from random ones by {_signed(worth.best)} when trained alone")
    return parts


def _interval(one: Interval | None) -> str:
    if one is None:
        return "unknown"
    return f"{one.value:.2f}" + (f" [{one.low:.2f}, {one.high:.2f}]" if one.low is not None else "")


def _signed(one: Interval) -> str:
    return f"{one.value:+.3f}" + (f" [{one.low:+.3f}, {one.high:+.3f}]" if one.low is not None else "")
