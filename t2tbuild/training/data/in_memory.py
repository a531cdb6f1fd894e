"""Datasets that are held on the device and augmented there in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t2tbuild.training.data.dataset import Batch, SplitName
from t2tbuild.training.sampler import EpochSampler, uniform_numbers


@dataclass(frozen=True)
class InMemorySplit:
    """Images [N, C, height, width] as they are stored, and their class numbers [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def _identity(images_BCHW: Tensor) -> Tensor:
    return images_BCHW


@dataclass(frozen=True)
class InMemoryData:
    """A dataset in three splits on one device.

    `prepare` converts a batch of stored images to the model's images. `augment` changes a training batch by
    `numbers_per_sample` uniform numbers from 0 to 1 for each image; without it training images stay unchanged.
    """

    splits: Mapping[SplitName, InMemorySplit]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    prepare: Callable[[Tensor], Tensor] = _identity
    augment: Callable[[Tensor, Tensor], Tensor] | None = None
    numbers_per_sample: int = 0
    corrupt_images: Sequence[str] = ()

    def mark_corrupt(self, names: Sequence[str]) -> None:
        """Do nothing: no image here is unreadable."""

    def size(self, split: SplitName) -> int:
        return len(self.splits[split])

    def image_name(self, split: SplitName, index: int) -> str:
        return f"{split}[{index}]"

    def train_batches(self, sampler: EpochSampler, *, epoch: int, step: int, epochs: int) -> Iterator[Batch]:
        split = self.splits["train"]
        device = split.labels.device
        for current in range(epoch, epochs):
            for position in range(step if current == epoch else 0, sampler.steps_per_epoch):
                chosen = torch.tensor(sampler.indices(current, position))
                images, labels = (stored[chosen.to(device)] for stored in (split.images, split.labels))
                images = self.prepare(images)
                if self.augment is not None:
                    numbers = uniform_numbers(sampler.num_samples, sampler.seed, current, self.numbers_per_sample)
                    images = self.augment(images, numbers[chosen].to(device))
                yield images, labels

    def eval_batches(self, split: SplitName, *, rank: int, world_size: int, batch_size: int) -> Iterator[Batch]:
        stored = self.splits[split]
        images, labels = stored.images[rank::world_size], stored.labels[rank::world_size]
        for start in range(0, len(labels), batch_size):
            yield self.prepare(images[start : start + batch_size]), labels[start : start + batch_size]
