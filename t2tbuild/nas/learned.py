"""Whether trainings have learned more than chance."""

import math
import statistics
from collections.abc import Sequence

from t2tbuild.nas.record import Record

LEARNED_LOSS = 0.95
"""A mean validation loss below this share of ln(classes), the loss of a guess, is more than chance."""
LEARNED_ACCURACY = 0.1
"""A mean accuracy this share of the way from 1 / classes to 1 is more than chance.

It is three standard deviations of the binomial distribution from 900 / (classes - 1) validation images on: 900 of two
classes, 100 of ten.
"""


def has_learned(trainings: Sequence[Record], num_classes: int) -> bool:
    """Whether the trainings of a model have learned more than chance on data of `num_classes` classes.

    Chance is the loss ln(classes) and the accuracy 1 / classes. Either is enough: the mean loss is lower by a twentieth
    (LEARNED_LOSS), or the mean accuracy is higher by more than the noise of a validation set (LEARNED_ACCURACY). A
    model may be accurate at a high loss where it is overconfident.
    """
    rungs = [record.rungs[-1] for record in trainings]
    loss, accuracy = statistics.fmean(rung.loss for rung in rungs), statistics.fmean(rung.accuracy for rung in rungs)
    chance = 1 / num_classes
    return loss < LEARNED_LOSS * math.log(num_classes) or accuracy > chance + LEARNED_ACCURACY * (1 - chance)


def describe_not_learned(trainings: Sequence[Sequence[Record]], num_classes: int) -> str:
    """Return the sentence for a winner and a base that are at chance level."""
    loss = min(statistics.fmean(run.rungs[-1].loss for run in runs) for runs in trainings if runs)
    steps = max(run.steps for runs in trainings for run in runs)
    return (
        f"No evidence of improvement: nothing has learned yet. After {steps} steps the validation loss is {loss:.3f}, "
        f"and a guess among {num_classes} classes has {math.log(num_classes):.3f}; write more steps in "
        "search.proxy.rungs. The base wins."
    )
