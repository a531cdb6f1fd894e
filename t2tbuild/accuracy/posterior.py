"""The posterior of a model's ImageNet top-1: the prediction, updated by evidence in proportion to its validity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from t2tbuild.accuracy.predictor import Z_90


@dataclass(frozen=True)
class Observation:
    """A result of one kind of evidence on a model.

    `z` is the model's result, standardised over all models with one. `correlation` is Pearson's correlation of such
    results with top-1, 0 for invalid evidence. `mean` and `deviation` are those of top-1, in percent, over the same
    models.
    """

    z: float
    correlation: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class Posterior:
    """Top-1 in percent with its 90% interval, and the weight of each observation; the prediction has the rest."""

    top1: float
    low: float
    high: float
    weights: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.top1:.1f}% ({self.low:.1f} to {self.high:.1f})"


def update_posterior(top1: float, deviation: float, observations: Sequence[Observation]) -> Posterior:
    """Return the posterior of a model after observations. `top1` and `deviation` are the prediction's, in percent.

    With z = correlation (top1 - mean) / deviation + noise of variance 1 - correlation^2, all of it normal, the
    posterior mean is that of prediction and observations, weighted by precision. An observation has the precision
    correlation^2 / (deviation^2 (1 - correlation^2)), zero for invalid evidence.

        >>> update_posterior(80.0, 1.0, [Observation(z=2.0, correlation=0.0, mean=80.0, deviation=1.0)]).top1
        80.0
    """
    precisions, values = [deviation**-2], [top1]
    for one in observations:
        correlation = min(one.correlation, 0.99)
        precisions.append(correlation**2 / (one.deviation**2 * (1 - correlation**2)) if one.deviation > 0 else 0.0)
        values.append(one.mean + one.deviation * one.z / correlation if correlation else 0.0)
    total = math.fsum(precisions)
    mean = math.fsum(precision * value for precision, value in zip(precisions, values, strict=True)) / total
    half = Z_90 / math.sqrt(total)
    return Posterior(mean, mean - half, mean + half, tuple(precision / total for precision in precisions[1:]))
