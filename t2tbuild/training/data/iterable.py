"""Data sets that can only be read on: shards of WebDataset, streams of Hugging Face, records of TensorFlow.

Each reader (a worker of a rank) has shards of its own. The order is timm's shuffling, seeded by (seed, epoch): it is a
function of these and of how many workers and ranks there are. Batches of a rank come from its workers in turn, counted
from the start of training: whoever starts in the middle gives each worker the part that it would have had.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from t2tbuild.training.data.dataset import HostBatch, Sample, collate, failed, sample_of
from t2tbuild.training.data.decode import Corrupt, reason
from t2tbuild.training.data.skipped_samples import SkippedSamples
from t2tbuild.training.data.timm_datasets import Opening
from t2tbuild.training.data.transforms import ImageTransform
from t2tbuild.training.sampler import EpochSampler, fold_in


@dataclass(frozen=True)
class TrainingShards(IterableDataset[HostBatch]):
    """This rank's batches from (epoch, step) on to the end of epoch `epochs` - 1.

    timm opens the set anew for each epoch: what a reader keeps from the one before would be hidden state. What comes
    before `step` is read and thrown away. The augmentation is a function of (seed, epoch, place in the epoch).
    """

    opening: Opening
    look: ImageTransform
    order: EpochSampler
    epoch: int
    step: int
    epochs: int

    def __iter__(self) -> Iterator[HostBatch]:
        order, info = self.order, get_worker_info()
        assert info is not None
        physical, workers = info.id, info.num_workers
        worker = (physical + self.epoch * order.steps + self.step) % workers
        for epoch in range(self.epoch, self.epochs):
            seed = fold_in(order.seed, epoch) % 2**31
            _become(order.rank * workers + worker, order.ranks * workers, seed + worker)
            mine = [step for step in range(order.steps) if (epoch * order.steps + step) % workers == worker]
            yield from self._epoch(epoch, mine, seed)

    def _epoch(self, epoch: int, steps: list[int], seed: int) -> Iterator[HostBatch]:
        order, share = self.order, self.order.share
        with SkippedSamples() as heard:
            try:
                settings = {"is_training": True, "batch_size": share, "seed": seed, "num_samples": order.samples}
                images = iter(_alone(self.opening.open(**settings)))
                for step in steps:
                    read = list(islice(images, share))
                    if len(read) < share:
                        yield _lacking(heard.taken(), self.opening)
                        return
                    if (epoch, step) < (self.epoch, self.step):
                        continue
                    start = (step * order.ranks + order.rank) * share
                    yield collate(
                        [
                            sample_of(image, int(label), look=self.look, seed=fold_in(order.seed, epoch, start + place))
                            for place, (image, label) in enumerate(read)
                        ]
                    )._replace(corrupt=heard.taken())
            except Exception as error:  # of every library its own
                yield failed(f"{self.opening.name}, split {self.opening.split}: {reason(error)}")


@dataclass(frozen=True)
class EvaluationShards(IterableDataset[HostBatch]):
    """This rank's share of a split: each shard is read once, by one worker of one rank."""

    opening: Opening
    look: ImageTransform
    rank: int
    ranks: int
    batch_size: int

    def __iter__(self) -> Iterator[HostBatch]:
        info = get_worker_info()
        assert info is not None
        _become(self.rank * info.num_workers + info.id, self.ranks * info.num_workers, 0)
        with SkippedSamples() as heard:
            try:
                images = iter(_alone(self.opening.open(batch_size=self.batch_size)))
                while read := list(islice(images, self.batch_size)):
                    samples = [sample_of(image, int(label), look=self.look, seed=0) for image, label in read]
                    yield collate(samples)._replace(corrupt=heard.taken())
            except Exception as error:  # of every library its own
                yield failed(f"{self.opening.name}, split {self.opening.split}: {reason(error)}")
            if corrupt := heard.taken():
                yield collate([Sample(None, corrupt=corrupt)])


def shards_of(dataset: Any) -> int | None:
    """Into how many parts a set can be divided among readers; None for any number."""
    reader = dataset.reader
    if hasattr(reader, "split_info") and hasattr(reader.split_info, "shard_lengths"):  # of WebDataset
        filenames = reader.split_info.filenames
        return len(filenames) if isinstance(filenames, (tuple, list)) else 1
    if hasattr(reader, "builder") and hasattr(reader.builder, "as_streaming_dataset"):  # of Hugging Face
        return int(reader.builder.as_streaming_dataset(split=reader.split).num_shards)
    return None


def _become(reader: int, readers: int, seed: int) -> None:
    """Let timm, webdataset and datasets see one of all the readers of all ranks, as they ask torch which they are.

    What torch answers with is frozen, and there is no other way to tell all three.
    """
    info = get_worker_info()
    for name, value in (("id", reader), ("num_workers", readers), ("seed", seed)):
        object.__setattr__(info, name, value)


def _alone(dataset: Any) -> Any:
    """A dataset that doesn't see the other ranks: `_become` has divided it already, and without padding."""
    dataset.reader.dist_rank, dataset.reader.dist_num_replicas = 0, 1
    return dataset


def _lacking(corrupt: tuple[Corrupt, ...], opening: Opening) -> HostBatch:
    message = f"a worker found no image to read in its shards of {opening.name}, split {opening.split}"
    return failed(message + (f"; the last one was {corrupt[-1]}" if corrupt else ""))
