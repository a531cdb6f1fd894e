"""What training reads: splits as batches, whether they lie on the device or stream from disk."""

import os
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, assert_never

import torch
from torch import Tensor

from t2tbuild.layout import Grid
from t2tbuild.spec.data import AnyData, CifarData, DigitsData, FakeData, FolderData, TimmData
from t2tbuild.training.sampler import EpochSampler

SplitName = Literal["train", "validation", "test"]
Batch = tuple[Tensor, Tensor]
"""Normalised images [B, C, height, width] in float32 and their class numbers [B], on the device."""


class Data(Protocol):
    """A data set in three splits: what is trained on, what choices are made on, and what is touched once."""

    @property
    def num_classes(self) -> int:
        """Classes of the labels."""
        ...

    @property
    def mean(self) -> tuple[float, ...]:
        """What was subtracted from each channel, in values from 0 to 1."""
        ...

    @property
    def std(self) -> tuple[float, ...]:
        """What each channel was then divided by."""
        ...

    @property
    def corrupt(self) -> Sequence[str]:
        """Names of the training images that could not be read so far, and why."""
        ...

    def remember(self, names: Sequence[str]) -> None:
        """Count these training images as known to be unreadable."""
        ...

    def size(self, split: SplitName) -> int:
        """Images of a split."""
        ...

    def training(self, order: EpochSampler, *, epoch: int, step: int, epochs: int) -> Iterator[Batch]:
        """A rank's training batches from a step of an epoch on to the end of the last epoch.

        The order is a function of (seed, epoch), the augmentation of a sample one of (seed, epoch, its index).
        """
        ...

    def evaluation(self, split: SplitName, *, rank: int, ranks: int, batch_size: int) -> Iterator[Batch]:
        """A rank's share of a split; every image once over all ranks."""
        ...


MOST_WORKERS = 8
"""Processes that read for a device where the spec does not say how many."""


def load_data(spec: AnyData, *, image: Grid, in_chans: int, device: torch.device, ranks_here: int = 1) -> Data:
    """The data that `spec` names, as images of `image` pixels with `in_chans` channels, for one rank on `device`.

    `ranks_here` share the cores of this machine for reading. Raises FieldError or InputError when the data is not there
    or does not suit the model.
    """
    match spec:
        case DigitsData():
            from t2tbuild.training.data.digits import load_digits_data

            return load_digits_data(spec, in_chans=in_chans, device=device)
        case CifarData():
            from t2tbuild.training.data.cifar import load_cifar

            return load_cifar(spec, image=image, in_chans=in_chans, device=device)
        case FakeData():
            from t2tbuild.training.data.fake import make_fake

            return make_fake(spec, image=image, in_chans=in_chans, device=device)
        case FolderData() | TimmData():
            from t2tbuild.training.data.streamed import StreamedData

            cores = min(MOST_WORKERS, max(1, (os.cpu_count() or 1) // ranks_here))
            workers = cores if spec.workers is None else spec.workers
            return StreamedData(spec, image=image, in_chans=in_chans, workers=workers, device=device)
        case _:
            assert_never(spec)
