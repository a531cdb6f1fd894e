"""Data that lie on the device as a whole, and are made ready and varied there in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t2tbuild.training.data import Batch, SplitName
from t2tbuild.training.sampler import EpochSampler, numbers


@dataclass(frozen=True)
class InMemorySplit:
    """Images [N, C, height, width], as they are stored, and their class numbers [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def as_they_are(images_BCHW: Tensor) -> Tensor:
    """What makes images ready that are so already."""
    return images_BCHW


@dataclass(frozen=True)
class InMemoryData:
    """A data set in three splits on one device.

    `prepare` makes a batch of stored images ready for the model; `vary` changes a batch by its images' own numbers from
    0 to 1, of which each image has `numbers_each`; with none, training images are as they are.
    """

    splits: Mapping[SplitName, InMemorySplit]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    prepare: Callable[[Tensor], Tensor] = as_they_are
    vary: Callable[[Tensor, Tensor], Tensor] | None = None
    numbers_each: int = 0
    corrupt: Sequence[str] = ()

    def remember(self, names: Sequence[str]) -> None:
        """Nothing here is unreadable."""

    def size(self, split: SplitName) -> int:
        return len(self.splits[split])

    def training(self, order: EpochSampler, *, epoch: int, step: int, epochs: int) -> Iterator[Batch]:
        split = self.splits["train"]
        device = split.labels.device
        for now in range(epoch, epochs):
            for place in range(step if now == epoch else 0, order.steps):
                chosen = torch.tensor(order.indices(now, place))
                images, labels = (whole[chosen.to(device)] for whole in (split.images, split.labels))
                images = self.prepare(images)
                if self.vary is not None:
                    own = numbers(order.samples, order.seed, now, self.numbers_each)[chosen]
                    images = self.vary(images, own.to(device))
                yield images, labels

    def evaluation(self, split: SplitName, *, rank: int, ranks: int, batch_size: int) -> Iterator[Batch]:
        images, labels = (whole[rank::ranks] for whole in (self.splits[split].images, self.splits[split].labels))
        for start in range(0, len(labels), batch_size):
            yield self.prepare(images[start : start + batch_size]), labels[start : start + batch_size]
