"""Datasets without random access: WebDataset shards, Hugging Face streams, TensorFlow records.

Each worker of each rank reads its own shards. The order is a function of (seed, epoch) and of the numbers of workers
and ranks. The workers of a rank yield its batches in turn, counted from the start of training. A run that resumes
starts the same workers, and each of them skips the batches that were already trained on.
"""

import io
import json
import os
import random
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol

from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from t2tbuild.errors import FieldError
from t2tbuild.image_mode import open_image, to_mode
from t2tbuild.training.data.dataset import (
    CorruptImage,
    HostBatch,
    LoaderFactory,
    Sample,
    collate,
    error_reason,
    failed_batch,
    is_out_of_resources,
    make_sample,
)
from t2tbuild.training.data.timm_datasets import TimmSplit
from t2tbuild.training.data.transforms import ImageTransform
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.training.seeds import fold_in

LabelledImage = tuple[Image.Image, int]
OnCorrupt = Callable[[CorruptImage], None]

IMAGE_KEYS = ("jpg", "png", "webp")
"""Extensions of images in shards of WebDataset; a sample's first one is read."""


class Reader(NamedTuple):
    """One worker of one rank among all that read a split."""

    rank: int
    world_size: int
    worker: int
    workers: int
    batch_size: int

    @property
    def number(self) -> int:
        """Number of this reader over all ranks, from 0."""
        return self.rank * self.workers + self.worker

    @property
    def total(self) -> int:
        """Number of readers of all ranks."""
        return self.world_size * self.workers


class ShardedSource(Protocol):
    """Images with labels in shards, which each reader reads in order."""

    def train_images(self, reader: Reader, seed: int, on_corrupt: OnCorrupt) -> Iterator[LabelledImage]:
        """Yield a reader's images in an order drawn from `seed`, from the start again after the last one."""
        ...

    def eval_images(self, reader: Reader, on_corrupt: OnCorrupt) -> Iterator[LabelledImage]:
        """Yield a reader's images once."""
        ...


@dataclass(frozen=True)
class WebDatasetSource:
    """Shards of WebDataset: `urls` of tar files; the label is in NAME.cls, or in the field `label_key` of NAME.json.

    Corrupt images and shards are skipped and reported.
    """

    urls: tuple[str, ...]
    mode: str
    label_key: str
    shuffle_size: int
    initial_size: int

    def train_images(self, reader: Reader, seed: int, on_corrupt: OnCorrupt) -> Iterator[LabelledImage]:
        urls = list(self.urls)
        random.Random(seed).shuffle(urls)  # noqa: S311 - the same order for every reader
        rng = random.Random(fold_in(seed, reader.number))  # noqa: S311
        samples = self._open(urls, reader, on_corrupt).shuffle(self.shuffle_size, initial=self.initial_size, rng=rng)
        yield from self._decoded(samples, on_corrupt).repeat()

    def eval_images(self, reader: Reader, on_corrupt: OnCorrupt) -> Iterator[LabelledImage]:
        yield from self._decoded(self._open(self.urls, reader, on_corrupt), on_corrupt)

    def _open(self, urls: Any, reader: Reader, on_corrupt: OnCorrupt) -> Any:
        """Return the undecoded samples of this reader's shards."""
        from webdataset import WebDataset  # type: ignore[import-untyped]

        return WebDataset(
            list(urls),
            handler=partial(_skip_sample, on_corrupt),
            shardshuffle=False,
            nodesplitter=partial(_shards_of_reader, reader=reader),
            workersplitter=None,  # a reader is a worker of a rank
            empty_check=False,
            seed=0,
        )

    def _decoded(self, samples: Any, on_corrupt: OnCorrupt) -> Any:
        return samples.map(self._decode, handler=partial(_skip_sample, on_corrupt))

    def _decode(self, sample: dict[str, Any]) -> LabelledImage | None:
        """Return the image and label of a sample, None for one that has a negative label in its JSON."""
        try:
            if self.label_key:
                from timm.data.readers.targets import get_field

                label = int(get_field(json.loads(sample["json"]), self.label_key))
                if label < 0:
                    return None
            else:
                label = int(sample["cls"])
            content = next((sample[key] for key in IMAGE_KEYS if key in sample), None)
            if content is None:
                raise ValueError(f"no {', '.join(IMAGE_KEYS)} among {', '.join(sorted(sample))}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # as for a map-style dataset
                return to_mode(open_image(io.BytesIO(content)), self.mode), label
        except Exception as error:
            if is_out_of_resources(error):
                raise
            name = f"{sample.get('__url__')}: {sample.get('__key__')}"
            raise _CorruptSampleError(CorruptImage(name, error_reason(error))) from None


def _shards_of_reader(shards: Iterator[Any], *, reader: Reader) -> Iterator[Any]:
    """Split shards over all readers: webdataset's `nodesplitter`."""
    return islice(shards, reader.number, None, reader.total)


class _CorruptSampleError(Exception):
    """A sample of a shard cannot be decoded."""

    def __init__(self, corrupt: CorruptImage) -> None:
        super().__init__(str(corrupt))
        self.corrupt = corrupt


def _skip_sample(on_corrupt: OnCorrupt, error: Exception) -> bool:
    """Report a corrupt sample or shard and continue: webdataset's `handler`."""
    if is_out_of_resources(error):
        raise error
    if isinstance(error, _CorruptSampleError):
        on_corrupt(error.corrupt)
        return True
    message, *context = error.args or ("",)
    reason, _, opened = str(message).partition(" @ ")  # webdataset appends the open file, or the URL as an argument
    urls = [value for value in context if isinstance(value, str)] + re.findall("name='(.*)'", opened)
    path = getattr(error, "filename", None) or (urls[0] if urls else "a shard")
    on_corrupt(CorruptImage(str(path), error_reason(error) if isinstance(error, OSError) else reason))
    return True


@dataclass(frozen=True)
class TimmStreamSource:
    """A Hugging Face stream (hfids/) or TensorFlow records (tfds/), opened by timm in each worker.

    The first corrupt image raises, because neither library can continue after it.
    """

    split: TimmSplit

    def train_images(self, reader: Reader, seed: int, on_corrupt: OnCorrupt) -> Iterator[LabelledImage]:  # noqa: ARG002
        dataset = self._open.create_dataset(is_training=True, batch_size=reader.batch_size, seed=seed)
        yield from self._images_of_rank(dataset, reader)

    def eval_images(self, reader: Reader, on_corrupt: OnCorrupt) -> Iterator[LabelledImage]:  # noqa: ARG002
        if self.split.family == "tfds":  # timm would repeat samples, so that all ranks have as many
            import tensorflow_datasets  # type: ignore[import-not-found]  # installed by the user

            own = tensorflow_datasets.even_splits(self.split.split, reader.world_size)[reader.rank]
            reader = reader._replace(rank=0, world_size=1)
            dataset = replace(self.split, split=own).create_dataset(batch_size=reader.batch_size)
        else:
            dataset = self._open.create_dataset(batch_size=reader.batch_size)
        yield from self._images_of_rank(dataset, reader)

    @property
    def _open(self) -> TimmSplit:
        """The split to open. Images of a Hugging Face stream come as they are stored; TensorFlow decodes to 8 bits."""
        return self.split if self.split.family == "tfds" else replace(self.split, mode="")

    def _images_of_rank(self, dataset: Any, reader: Reader) -> Iterator[LabelledImage]:
        """Yield a rank's share of a dataset of timm, which asks torch for the worker."""
        dataset.reader.dist_rank, dataset.reader.dist_num_replicas = reader.rank, reader.world_size
        for image, label in dataset:
            yield to_mode(image, self.split.mode), label


@dataclass(frozen=True)
class TrainingShards(IterableDataset[HostBatch | None]):
    """This rank's batches from (epoch, step) to the end of epoch `epochs` - 1.

    A worker opens the dataset in every epoch, reads the steps before `step` and drops them. The augmentation is a
    function of (seed, epoch, position in the epoch). DataLoader asks worker 0 first: a worker before the one whose turn
    it is yields None for its first batch.
    """

    name: str
    source: ShardedSource
    transform: ImageTransform
    sampler: EpochSampler
    epoch: int
    step: int
    epochs: int

    def __iter__(self) -> Iterator[HostBatch | None]:
        sampler, info = self.sampler, get_worker_info()
        assert info is not None
        steps = sampler.steps_per_epoch
        reader = Reader(sampler.rank, sampler.world_size, info.id, info.num_workers, sampler.local_batch_size)
        if reader.worker < (self.epoch * steps + self.step) % reader.workers:
            yield None
        for epoch in range(self.epoch, self.epochs):
            own = [step for step in range(steps) if (epoch * steps + step) % reader.workers == reader.worker]
            yield from self._epoch(epoch, own, reader)

    def _epoch(self, epoch: int, steps: list[int], reader: Reader) -> Iterator[HostBatch]:
        size, seed = self.sampler.local_batch_size, self.sampler.seed
        corrupt: list[CorruptImage] = []
        try:
            images = self.source.train_images(reader, fold_in(seed, epoch) % 2**31, corrupt.append)
            for step in steps:
                read = list(islice(images, size))
                if len(read) < size:
                    message = f"a worker found no readable image in its shards of {self.name}"
                    yield failed_batch(message + (f"; the last corrupt image: {corrupt[-1]}" if corrupt else ""))
                    return
                if (epoch, step) < (self.epoch, self.step):
                    continue
                start = (step * self.sampler.world_size + self.sampler.rank) * size
                samples = [
                    make_sample(
                        image, int(label), transform=self.transform, seed=fold_in(seed, epoch, start + position)
                    )
                    for position, (image, label) in enumerate(read)
                ]
                yield collate(samples)._replace(corrupt=tuple(corrupt))
                corrupt.clear()
        except Exception as error:  # each library has its own types
            yield failed_batch(f"{self.name}: {error_reason(error)}")


@dataclass(frozen=True)
class EvaluationShards(IterableDataset[HostBatch]):
    """This rank's share of a split; every image is read once over all ranks."""

    name: str
    source: ShardedSource
    transform: ImageTransform
    rank: int
    world_size: int
    batch_size: int

    def __iter__(self) -> Iterator[HostBatch]:
        info = get_worker_info()
        assert info is not None
        reader = Reader(self.rank, self.world_size, info.id, info.num_workers, self.batch_size)
        corrupt: list[CorruptImage] = []
        try:
            images = self.source.eval_images(reader, corrupt.append)
            while read := list(islice(images, self.batch_size)):
                samples = [make_sample(image, int(label), transform=self.transform, seed=0) for image, label in read]
                yield collate(samples)._replace(corrupt=tuple(corrupt))
                corrupt.clear()
        except Exception as error:  # each library has its own types
            yield failed_batch(f"{self.name}: {error_reason(error)}")
        if corrupt:
            yield collate([Sample(None, corrupt=tuple(corrupt))])


@dataclass(frozen=True)
class IterableSplit:
    """A split without random access, in `num_shards` shards; None if any number of workers can share it."""

    name: str
    source: ShardedSource
    size: int
    num_shards: int | None

    def num_workers(self, requested: int, world_size: int) -> int:
        """Return the number of workers to start: at least one, and no more than a rank has shards."""
        return max(1, requested if self.num_shards is None else min(requested, self.num_shards // world_size))

    def train_loader(
        self, transform: ImageTransform, sampler: EpochSampler, *, epoch: int, step: int, epochs: int
    ) -> LoaderFactory:
        if self.num_shards is not None and self.num_shards < sampler.world_size:
            message = f"{self.name}, has {self.num_shards} shards for {sampler.world_size} devices"
            hint = f"train on at most {self.num_shards} devices, or write more shards"
            raise FieldError(("train", "data", "name"), "data-shards", message, hint)
        dataset = TrainingShards(self.name, self.source, transform, sampler, epoch, step, epochs)
        return partial(DataLoader, dataset, batch_size=None, collate_fn=_identity)

    def eval_loader(self, transform: ImageTransform, *, rank: int, world_size: int, batch_size: int) -> LoaderFactory:
        dataset = EvaluationShards(self.name, self.source, transform, rank, world_size, batch_size)
        return partial(DataLoader, dataset, batch_size=None, collate_fn=_identity)


def _identity(batch: Any) -> Any:
    """Collate nothing: the worker has made the batch."""
    return batch


def open_iterable_split(split: TimmSplit, dataset: Any) -> IterableSplit:
    """Return the split of a dataset that timm has opened and that has no random access."""
    reader = dataset.reader
    name = f"{split.name}, split {split.split}"
    if split.family == "wds":
        info = reader.split_info
        urls = info.filenames if isinstance(info.filenames, (tuple, list)) else (info.filenames,)
        source = WebDatasetSource(
            urls=tuple(os.path.join(reader.root, url) for url in urls),  # noqa: PTH118 - the root may be a URL
            mode=split.mode,
            label_key=info.alt_label,
            shuffle_size=reader.sample_shuffle_size,
            initial_size=reader.sample_initial_size,
        )
        return IterableSplit(name, source, reader.num_samples, len(urls))
    shards = None
    if hasattr(reader.builder, "as_streaming_dataset"):  # Hugging Face; TensorFlow divides a split at any sample
        shards = int(reader.builder.as_streaming_dataset(split=reader.split).num_shards)
    return IterableSplit(name, TimmStreamSource(split), reader.num_samples, shards)
