"""The interface of training data, decoding of one image, and map-style datasets with their batches."""

import errno
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from t2tbuild.image_mode import to_mode
from t2tbuild.training.data.transforms import ErasedPatch, ImageTransform, fork_rng
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.training.seeds import fold_in

SplitName = Literal["train", "validation", "test"]
Batch = tuple[Tensor, Tensor]
"""Normalised images [B, C, height, width] in float32 and their class numbers [B], on the device."""

LoaderFactory = Callable[..., DataLoader[Any]]
"""DataLoader with its dataset; it is called with the number of workers and their settings."""

OnProgress = Callable[[str, int, int], None]
"""A function of the split that is read, the number of its images that are done, and of all."""

OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Error numbers that concern the machine, not the image."""


class Data(Protocol):
    """A dataset in three splits: the first is trained on, the second selects, and the third is measured once."""

    @property
    def num_classes(self) -> int:
        """Number of classes of the labels."""
        ...

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean that is subtracted from each channel, in values from 0 to 1."""
        ...

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation by which each channel is then divided."""
        ...

    @property
    def corrupt_images(self) -> Sequence[str]:
        """Names of the training images that could not be read so far, each with the reason."""
        ...

    def mark_corrupt(self, names: Sequence[str]) -> None:
        """Count these training images as known to be unreadable."""
        ...

    def size(self, split: SplitName) -> int:
        """Return the number of images of a split."""
        ...

    def image_name(self, split: SplitName, index: int) -> str:
        """Return the path of the image that `eval_batches` yields at `index`, or the split and the index.

        Images that were left out, as they could not be read, are known once all batches were read.
        """
        ...

    def train_batches(self, sampler: EpochSampler, *, epoch: int, step: int, epochs: int) -> Iterator[Batch]:
        """Yield this rank's batches from (epoch, step) to the end of epoch `epochs` - 1.

        The order is a function of (seed, epoch), the augmentation of a sample one of (seed, epoch, index).
        """
        ...

    def eval_batches(self, split: SplitName, *, rank: int, world_size: int, batch_size: int) -> Iterator[Batch]:
        """Yield this rank's share of a split; all ranks together yield every image once."""
        ...


class CorruptImage(NamedTuple):
    """An image that cannot be read, and the reason."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


class ImageSource(Protocol):
    """Labelled images by index."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Return the path of an image, or its split and index."""

    def read(self, index: int) -> tuple[Image.Image, int]:
        """Return an image and its label. Raises any error of the system, of PIL or of a library."""


def read_image(source: ImageSource, index: int, *, mode: str) -> tuple[Image.Image, int] | CorruptImage:
    """Read an image upright, in 8 bits and in PIL's `mode` (RGB or L), and its label.

    PIL has many error types for a broken file. So every error counts as the file's, except those of a machine without
    memory or file handles. PIL's warnings are suppressed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image, label = source.read(index)
            return to_mode(image, mode), label
    except Exception as error:
        if is_out_of_resources(error):
            raise
        return CorruptImage(source.name(index), error_reason(error))


def is_out_of_resources(error: BaseException) -> bool:
    """Whether the machine lacks memory or file handles."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES)


def error_reason(error: BaseException) -> str:
    """Return an error as one line of at most 200 characters, without the path, which the message already has."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if message.startswith("cannot identify image file"):
        message = "not an image"
    return " ".join(message.split())[:200] or type(error).__name__


class Sample(NamedTuple):
    """Pixels [C, H, W] as bytes, or None if no image could be read, and the corrupt images that it replaces."""

    pixels: Tensor | None
    label: int = -1
    patch: ErasedPatch | None = None
    corrupt: tuple[CorruptImage, ...] = ()


class HostBatch(NamedTuple):
    """A batch as a worker sends it: few tensors, since each of them takes a file handle.

    `images` [B, C, H, W] bytes, `labels` [B], `boxes` [K, 5] as (image, top, left, height, width) of each erased patch,
    `noise` [sum of C * height * width] of all patches. A batch with `failure` has no images.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor
    noise: Tensor
    corrupt: tuple[CorruptImage, ...] = ()
    failure: str = ""


def failed_batch(message: str) -> HostBatch:
    """Return an error as a batch: an exception would carry the worker's traceback."""
    empty = torch.empty(0)
    return HostBatch(empty, empty, empty, empty, failure=message)


def collate(samples: Sequence[Sample]) -> HostBatch:
    """Put samples into one batch. The names of corrupt images are kept even if no image is left."""
    readable = [sample for sample in samples if sample.pixels is not None]
    patches = [(number, sample.patch) for number, sample in enumerate(readable) if sample.patch is not None]
    boxes = [(number, patch.top, patch.left, *patch.noise.shape[1:]) for number, patch in patches]
    images = [sample.pixels for sample in readable if sample.pixels is not None]
    return HostBatch(
        images=torch.stack(images).contiguous() if images else torch.empty(0),
        labels=torch.tensor([sample.label for sample in readable]),
        boxes=torch.tensor(boxes, dtype=torch.int64).view(-1, 5),
        noise=torch.cat([patch.noise.flatten() for _, patch in patches]) if patches else torch.empty(0),
        corrupt=tuple(corrupt for sample in samples for corrupt in sample.corrupt),
    )


def make_sample(
    image: Image.Image, label: int, *, transform: ImageTransform, seed: int, corrupt: tuple[CorruptImage, ...] = ()
) -> Sample:
    """Apply `transform` with `seed` to an image."""
    with fork_rng(seed):
        pixels, patch = transform(image)
    return Sample(pixels, label, patch, corrupt)


EpochIndex = tuple[int, int]
"""Epoch and index: what a worker needs to read and augment a sample."""


class IndexedDataset(Dataset[Sample]):
    """Samples by (epoch, index); each is a function of (seed, epoch, index) alone.

    A corrupt image is replaced by the next readable one in index order. After more than `skip` corrupt images in a row
    the sample has no pixels.
    """

    def __init__(self, source: ImageSource, *, transform: ImageTransform, mode: str, seed: int, skip: int) -> None:
        self.source, self.transform, self.mode, self.seed, self.skip = source, transform, mode, seed, skip

    def __getitem__(self, key: EpochIndex) -> Sample:
        epoch, index = key
        corrupt: list[CorruptImage] = []
        while len(corrupt) <= min(self.skip, len(self.source) - 1):
            found = read_image(self.source, (index + len(corrupt)) % len(self.source), mode=self.mode)
            if not isinstance(found, CorruptImage):
                seed = fold_in(self.seed, epoch, index)
                return make_sample(*found, transform=self.transform, seed=seed, corrupt=tuple(corrupt))
            corrupt.append(found)
        return Sample(None, corrupt=tuple(corrupt))


@dataclass(frozen=True)
class TrainBatchSampler:
    """This rank's batches of keys from (epoch, step) to the end of epoch `epochs` - 1."""

    sampler: EpochSampler
    epoch: int
    step: int
    epochs: int

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        for epoch in range(self.epoch, self.epochs):
            for step in range(self.step if epoch == self.epoch else 0, self.sampler.steps_per_epoch):
                yield [(epoch, index) for index in self.sampler.indices(epoch, step)]


@dataclass(frozen=True)
class EvaluationBatchSampler:
    """This rank's share of all samples in order: every `world_size`th of them."""

    num_samples: int
    rank: int
    world_size: int
    batch_size: int

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        own = range(self.rank, self.num_samples, self.world_size)
        for start in range(0, len(own), self.batch_size):
            yield [(0, index) for index in own[start : start + self.batch_size]]


@dataclass(frozen=True)
class MapStyleSplit:
    """A split whose samples are read by index, with the class `dataset`, so that any worker may read any sample."""

    source: ImageSource
    mode: str
    skip: int
    dataset: type[IndexedDataset] = IndexedDataset

    @property
    def size(self) -> int:
        return len(self.source)

    def num_workers(self, requested: int, world_size: int) -> int:  # noqa: ARG002 - as in IterableSplit
        """Return the number of workers to start: the requested one."""
        return requested

    def train_loader(
        self, transform: ImageTransform, sampler: EpochSampler, *, epoch: int, step: int, epochs: int
    ) -> LoaderFactory:
        dataset = self.dataset(self.source, transform=transform, mode=self.mode, seed=sampler.seed, skip=self.skip)
        batches = TrainBatchSampler(sampler, epoch, step, epochs)
        return partial(DataLoader, dataset, batch_sampler=batches, collate_fn=collate)

    def eval_loader(self, transform: ImageTransform, *, rank: int, world_size: int, batch_size: int) -> LoaderFactory:
        dataset = self.dataset(self.source, transform=transform, mode=self.mode, seed=0, skip=0)
        batches = EvaluationBatchSampler(self.size, rank, world_size, batch_size)
        return partial(DataLoader, dataset, batch_sampler=batches, collate_fn=collate)
