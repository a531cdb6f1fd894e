"""What a model gets wrong: how often each class is taken for another, and its most confident wrong predictions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t2tbuild.training.data import Data, SplitName

MISTAKES_KEPT = 24
"""Number of wrong predictions that are kept."""


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction: the image's path or place, its class, the predicted one and its probability.

    `pixels` [height, width, C] are bytes of the image as the model saw it.
    """

    image: str
    label: str
    predicted: str
    confidence: float
    pixels: Tensor


@dataclass(frozen=True)
class _Wrong:
    index: int
    label: int
    predicted: int
    confidence: float
    image: Tensor


class MistakeCollector:
    """Counts predictions by class and keeps the most confident wrong ones, in an evaluation by one process.

    `counts` has the number of images by (class, predicted class), for the pairs that occur; `seen` is their sum.
    """

    def __init__(self, keep: int = MISTAKES_KEPT) -> None:
        self.keep, self.seen = keep, 0
        self.counts: Counter[tuple[int, int]] = Counter()
        self._worst: list[_Wrong] = []

    def add(self, images: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: images [B, C, height, width], logits [B, classes] and labels [B], in the order of the split."""
        confidence, predicted = logits.softmax(dim=1).max(dim=1)
        self.counts.update(zip(labels.tolist(), predicted.tolist(), strict=True))
        wrong = (predicted != labels).nonzero().flatten()
        for place in wrong[confidence[wrong].argsort(descending=True, stable=True)][: self.keep].tolist():
            values = (int(labels[place]), int(predicted[place]), float(confidence[place]))
            if len(self._worst) < self.keep or values[2] > self._worst[-1].confidence:
                self._worst.append(_Wrong(self.seen + place, *values, images[place].cpu()))
                self._worst.sort(key=lambda one: (-one.confidence, one.index))
                del self._worst[self.keep :]
        self.seen += len(labels)

    def mistakes(self, data: Data, split: SplitName, names: Sequence[str]) -> tuple[Mistake, ...]:
        """Return the wrong predictions, the most confident first; `names` are those of the model's classes."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
        return tuple(
            Mistake(
                data.image_name(split, one.index),
                names[one.label],
                names[one.predicted],
                one.confidence,
                ((one.image * std + mean) * 255).round().clamp(0, 255).byte().permute(1, 2, 0),
            )
            for one in self._worst
        )
