"""A split that is streamed, and how torch's DataLoader reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from t2tbuild.errors import FieldError
from t2tbuild.spec.data import FolderData, TimmData, data_root
from t2tbuild.training.data.dataset import EvaluationBatchSampler, IndexedDataset, TrainBatchSampler, collate
from t2tbuild.training.data.decode import Samples
from t2tbuild.training.data.folder import FolderSamples
from t2tbuild.training.data.iterable import EvaluationShards, TrainingShards, shards_of
from t2tbuild.training.data.timm_datasets import Opening, ReaderSamples, TorchSamples, opening
from t2tbuild.training.data.transforms import ImageTransform
from t2tbuild.training.dataset_paths import class_folders
from t2tbuild.training.sampler import EpochSampler

Loader = Callable[..., DataLoader[Any]]
"""DataLoader with what it loads; still to be told how many workers, and how they begin."""


@dataclass(frozen=True)
class MapStyleSplit:
    """A split whose samples are found by number, so that workers are free to share them out."""

    samples: Samples
    mode: str
    skip: int

    @property
    def size(self) -> int:
        return len(self.samples)

    def workers(self, wanted: int, ranks: int) -> int:  # noqa: ARG002 - as ShardedSplit's
        return wanted

    def training(self, look: ImageTransform, order: EpochSampler, *, epoch: int, step: int, epochs: int) -> Loader:
        keys = TrainBatchSampler(order, epoch, step, epochs)
        pictures = IndexedDataset(self.samples, look=look, mode=self.mode, seed=order.seed, skip=self.skip)
        return partial(DataLoader, pictures, batch_sampler=keys, collate_fn=collate)

    def evaluation(self, look: ImageTransform, *, rank: int, ranks: int, batch_size: int) -> Loader:
        keys = EvaluationBatchSampler(self.size, rank, ranks, batch_size)
        pictures = IndexedDataset(self.samples, look=look, mode=self.mode, seed=0, skip=0)
        return partial(DataLoader, pictures, batch_sampler=keys, collate_fn=collate)


@dataclass(frozen=True)
class IterableSplit:
    """A split that can only be read on, in `shards` parts, or in any number where that is None."""

    opening: Opening
    size: int
    shards: int | None

    def workers(self, wanted: int, ranks: int) -> int:
        """One at least, as only a worker can be told which part is its own, and none without a shard."""
        return max(1, wanted if self.shards is None else min(wanted, self.shards // ranks))

    def training(self, look: ImageTransform, order: EpochSampler, *, epoch: int, step: int, epochs: int) -> Loader:
        if self.shards is not None and self.shards < order.ranks:
            message = (
                f"{self.opening.name}, split {self.opening.split}, has {self.shards} shards for {order.ranks} devices"
            )
            raise FieldError(("train", "data", "name"), "data-shards", message, "every device needs one of its own")
        shards = TrainingShards(self.opening, look, order, epoch, step, epochs)
        return partial(DataLoader, shards, batch_size=None, collate_fn=as_it_is)

    def evaluation(self, look: ImageTransform, *, rank: int, ranks: int, batch_size: int) -> Loader:
        shards = EvaluationShards(self.opening, look, rank, ranks, batch_size)
        return partial(DataLoader, shards, batch_size=None, collate_fn=as_it_is)


StreamedSplit = MapStyleSplit | IterableSplit


def open_split(spec: FolderData | TimmData, split: str, *, mode: str) -> StreamedSplit:
    """The split that the spec calls "train", "validation" or "test". Raises FieldError when it is not there."""
    field = "validation" if split == "test" and spec.test is None else split
    name = {"train": spec.train, "validation": spec.validation, "test": spec.test}[field]
    assert name is not None
    match spec:
        case FolderData():
            blame = ("train", "data", "train") if field == "train" else None
            files = FolderSamples(data_root(spec.root) / name, class_folders(spec), every_class=blame)
            return _filled(MapStyleSplit(files, mode, spec.skip_corrupt), field, files.folder)
        case TimmData():
            asked, dataset = opening(spec, name, mode=mode)
            if not asked.is_numbered:
                sharded = IterableSplit(asked, dataset.reader.num_samples, shards_of(dataset))
                return _filled(sharded, field, f"{spec.name} (num_samples of its description)")
            kind = TorchSamples if asked.family == "torch" else ReaderSamples
            samples = kind(dataset if asked.family == "torch" else dataset.reader, asked)
            return _filled(MapStyleSplit(samples, mode, spec.skip_corrupt), field, spec.name)


def _filled(split: StreamedSplit, field: str, where: str) -> StreamedSplit:
    if not split.size:
        raise FieldError(("train", "data", field), "data", f"no images in {where}", "name a split that has some")
    return split


def as_it_is(batch: Any) -> Any:
    """A batch that the worker has already put together."""
    return batch
