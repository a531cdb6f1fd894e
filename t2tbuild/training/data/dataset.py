"""A data set whose images are found by number, as workers see it, and the batches that they send."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from t2tbuild.training.data.decode import Corrupt, Samples, decode
from t2tbuild.training.data.erasing import Patch
from t2tbuild.training.data.transforms import ImageTransform, fork_rng
from t2tbuild.training.sampler import EpochSampler, fold_in

Key = tuple[int, int]
"""Epoch and index: all that a worker needs to know of time."""


class Sample(NamedTuple):
    """A picture [C, H, W] of bytes, or None where none could be read, and the corrupt images met on the way."""

    picture: Tensor | None
    label: int = -1
    patch: Patch | None = None
    corrupt: tuple[Corrupt, ...] = ()


class HostBatch(NamedTuple):
    """What a worker sends: few tensors, as each costs a file handle.

    `images` [B, C, H, W] bytes, `labels` [B], `boxes` [K, 5] as (image, top, left, height, width) of each patch,
    `noise` [sum of C * height * width] of them all; with `failure` nothing else.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor
    noise: Tensor
    corrupt: tuple[Corrupt, ...] = ()
    failure: str = ""


def failed(message: str) -> HostBatch:
    """Errors are sent as values: an exception would bring the worker's traceback along."""
    nothing = torch.empty(0)
    return HostBatch(nothing, nothing, nothing, nothing, failure=message)


def collate(samples: Sequence[Sample]) -> HostBatch:
    """One batch of samples. Corrupt images are told even where no picture is left."""
    whole = [sample for sample in samples if sample.picture is not None]
    patches = [(number, sample.patch) for number, sample in enumerate(whole) if sample.patch is not None]
    boxes = [(number, patch.top, patch.left, *patch.noise.shape[1:]) for number, patch in patches]
    pictures = [sample.picture for sample in whole if sample.picture is not None]
    return HostBatch(
        images=torch.stack(pictures).contiguous() if pictures else torch.empty(0),
        labels=torch.tensor([sample.label for sample in whole]),
        boxes=torch.tensor(boxes, dtype=torch.int64).view(-1, 5),
        noise=torch.cat([patch.noise.flatten() for _, patch in patches]) if patches else torch.empty(0),
        corrupt=tuple(corrupt for sample in samples for corrupt in sample.corrupt),
    )


def sample_of(
    image: Image.Image, label: int, *, look: ImageTransform, seed: int, corrupt: tuple[Corrupt, ...] = ()
) -> Sample:
    """The image as `look` makes it ready with `seed`."""
    with fork_rng(seed):
        picture, patch = look(image)
    return Sample(picture, label, patch, corrupt)


class IndexedDataset(Dataset[Sample]):
    """Samples by (epoch, index), each a function of (seed, epoch, index) alone.

    A corrupt image is replaced by the next readable one in index order; after more than `skip` in a row the sample has
    no picture.
    """

    def __init__(self, samples: Samples, *, look: ImageTransform, mode: str, seed: int, skip: int) -> None:
        self.samples, self.look, self.mode, self.seed, self.skip = samples, look, mode, seed, skip

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        corrupt: list[Corrupt] = []
        while len(corrupt) <= min(self.skip, len(self.samples) - 1):
            read = decode(self.samples, (index + len(corrupt)) % len(self.samples), mode=self.mode)
            if not isinstance(read, Corrupt):
                seed = fold_in(self.seed, epoch, index)
                return sample_of(*read, look=self.look, seed=seed, corrupt=tuple(corrupt))
            corrupt.append(read)
        return Sample(None, corrupt=tuple(corrupt))


@dataclass(frozen=True)
class TrainBatchSampler:
    """This rank's batches of keys from (epoch, step) on to the end of epoch `epochs` - 1."""

    order: EpochSampler
    epoch: int
    step: int
    epochs: int

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch in range(self.epoch, self.epochs):
            for step in range(self.step if epoch == self.epoch else 0, self.order.steps):
                yield [(epoch, index) for index in self.order.indices(epoch, step)]


@dataclass(frozen=True)
class EvaluationBatchSampler:
    """This rank's share of all samples in order, every `ranks`th of them."""

    samples: int
    rank: int
    ranks: int
    batch_size: int

    def __iter__(self) -> Iterator[list[Key]]:
        mine = range(self.rank, self.samples, self.ranks)
        for start in range(0, len(mine), self.batch_size):
            yield [(0, index) for index in mine[start : start + self.batch_size]]
