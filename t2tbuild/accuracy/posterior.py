"""What is believed of a model's ImageNet top-1: the prediction, updated by evidence in proportion to its validity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from t2tbuild.accuracy.predictor import Z


@dataclass(frozen=True)
class Observation:
    """What evidence says of one model among others.

    `z` is the model's result, standardised over the models that have one; `correlation` is Pearson's correlation of
    such results with true top-1, 0 where the evidence is not valid; `mean` and `deviation` are those of top-1, in
    percent, among the same models.
    """

    z: float
    correlation: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class Belief:
    """Top-1 in percent with its 90% interval, and the share of each observation in it; the prediction has the rest."""

    top1: float
    low: float
    high: float
    weights: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.top1:.1f}% ({self.low:.1f} to {self.high:.1f})"


def update(top1: float, deviation: float, observations: Sequence[Observation]) -> Belief:
    """The belief of a model of predicted `top1` and its standard deviation, both in percent, after observations.

    With z = correlation (top1 - mean) / deviation + noise of variance 1 - correlation^2, all of it normal, the
    posterior is the mean of prediction and observations by their precisions; that of an observation is
    correlation^2 / (deviation^2 (1 - correlation^2)), zero where it is not valid.

        >>> update(80.0, 1.0, [Observation(z=2.0, correlation=0.0, mean=80.0, deviation=1.0)]).top1
        80.0
    """
    precisions, values = [deviation**-2], [top1]
    for one in observations:
        correlation = min(one.correlation, 0.99)
        precisions.append(correlation**2 / (one.deviation**2 * (1 - correlation**2)) if one.deviation > 0 else 0.0)
        values.append(one.mean + one.deviation * one.z / correlation if correlation else 0.0)
    total = math.fsum(precisions)
    mean = math.fsum(precision * value for precision, value in zip(precisions, values, strict=True)) / total
    half = Z / math.sqrt(total)
    return Belief(mean, mean - half, mean + half, tuple(precision / total for precision in precisions[1:]))
