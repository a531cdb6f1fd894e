"""Datasets that are held on the device, or mapped into memory, and augmented on the device in batches."""

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


def normalize(images_BCHW: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return normalised images from bytes."""
    mean_C11, std_C11 = (torch.tensor(values, device=images_BCHW.device)[:, None, None] for values in (mean, std))
    return (images_BCHW.float() / 255 - mean_C11) / std_C11


def shift_and_flip(
    images_BCHW: Tensor, numbers_B3: Tensor, *, max_shift: int, hflip: float, black: Sequence[float]
) -> Tensor:
    """Shift each image by up to `max_shift` pixels, padded with `black`, and flip some, by its own numbers."""
    height, width = images_BCHW.shape[2:]
    padded = images_BCHW.new_tensor(black)[None, :, None, None].repeat(
        len(images_BCHW), 1, height + 2 * max_shift, width + 2 * max_shift
    )
    padded[:, :, max_shift : max_shift + height, max_shift : max_shift + width] = images_BCHW
    top, left = (numbers_B3[:, :2] * (2 * max_shift + 1)).long().unbind(1)
    batch = torch.arange(len(padded), device=padded.device)
    rows = top[:, None] + torch.arange(height, device=padded.device)
    columns = left[:, None] + torch.arange(width, device=padded.device)
    channels = torch.arange(len(black), device=padded.device)
    shifted = padded[
        batch[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]
    return torch.where((numbers_B3[:, 2] < hflip)[:, None, None, None], shifted.flip(3), shifted)


@dataclass(frozen=True)
class InMemoryData:
    """A dataset in three splits on one device.

    The labels are on the device. The images may be elsewhere, mapped into memory: each batch of them is then moved.

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
    fingerprint: str = ""
    """A sum that changes with the files of the images; empty where there are none."""

    def mark_corrupt(self, names: Sequence[str]) -> None:
        """Do nothing: a cache has replaced unreadable images already."""

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
                images, labels = (stored[chosen.to(stored.device)] for stored in (split.images, split.labels))
                images = self.prepare(images.to(device))
                if self.augment is not None:
                    numbers = uniform_numbers(sampler.num_samples, sampler.seed, current, self.numbers_per_sample)
                    images = self.augment(images, numbers[chosen].to(device))
                yield images, labels

    def eval_batches(self, split: SplitName, *, rank: int, world_size: int, batch_size: int) -> Iterator[Batch]:
        stored = self.splits[split]
        images, labels = stored.images[rank::world_size], stored.labels[rank::world_size]
        for start in range(0, len(labels), batch_size):
            batch = images[start : start + batch_size].to(labels.device)
            yield self.prepare(batch), labels[start : start + batch_size]
