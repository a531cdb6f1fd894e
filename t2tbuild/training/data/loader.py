"""Images that worker processes read while the device trains: FolderData, CsvData and TimmData."""

import atexit
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch

from t2tbuild.errors import FieldError, TrainingError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import HOLDOUT, CsvData, FolderData, PythonData, Streamed, TimmData, UserImages, data_root
from t2tbuild.spec.units import plural
from t2tbuild.training.data.csv_files import open_csv
from t2tbuild.training.data.dataset import Batch, CorruptImage, HostBatch, LoaderFactory, MapStyleSplit
from t2tbuild.training.data.folder import ImageFiles, ImageFolder, hold_out
from t2tbuild.training.data.iterable import IterableSplit, open_iterable_split
from t2tbuild.training.data.timm_datasets import TimmIndexedSource, TorchvisionSource, open_timm_split
from t2tbuild.training.data.transforms import channel_statistics, evaluation_transform, train_transform
from t2tbuild.training.dataset_paths import class_names, count_classes, resolve_data
from t2tbuild.training.sampler import EpochSampler

NAMES_IN_MESSAGE = 3
"""Largest number of corrupt images that an error names."""

CHECK_BATCH = 64
"""Images between two reports of progress when all images of a split are read."""

GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""A terminal and torchrun send these to the whole process group; only the main process handles them."""

KILL_TIMEOUT = 5.0  # seconds

StreamedSplit = MapStyleSplit | IterableSplit


class StreamedData:
    """The splits of streamed data. "test" is the validation split where the spec names no other.

    `mean` and `std` have one number for each channel of the model's images. `corrupt_images` names the training images
    that this rank replaced, each once, in order of discovery.

    Order and augmentation are functions of (seed, epoch, index). A split without random access (wds/, hfids/, tfds/)
    has its own order, a function of (seed, epoch) for the same numbers of workers and ranks. It has at least
    one worker, and no more workers than shards. With hfids/ and tfds/ the first corrupt image ends training.

    Raises FieldError when the data is not where the spec says, or has other classes.
    """

    def __init__(self, spec: Streamed, *, image: Grid, in_chans: int, workers: int, device: torch.device) -> None:
        spec = resolve_streamed(spec)
        self.spec, self.workers, self.device = spec, workers, device
        self.mean, self.std = channel_statistics(spec, in_chans)
        self.num_classes = count_classes(spec)
        self.corrupt_images: list[str] = []
        self._corrupt_names: set[str] = set()
        self._mode = "L" if in_chans == 1 else "RGB"
        self._train_transform = train_transform(spec, image, self.mean)
        self._eval_transform = evaluation_transform(spec, image)
        self._mean, self._std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (self.mean, self.std))
        self._splits: dict[str, StreamedSplit] = {}

    def mark_corrupt(self, names: Sequence[str]) -> None:
        """Count these training images, as `corrupt_images` has them, as known to be unreadable."""
        self.corrupt_images += names
        self._corrupt_names.update(name.rpartition(" (")[0] for name in names)

    def size(self, split: str) -> int:
        """Return the number of images of a split."""
        return self._split(split).size

    def image_name(self, split: str, index: int) -> str:
        """Return the path of a readable image of a split, or the split and the index where images have no fixed order.

        `index` counts the images that `eval_batches` of one process yielded.
        """
        opened = self._split(split)
        if not isinstance(opened, MapStyleSplit):
            return f"{split}[{index}]"
        if not (self._corrupt_names and self.is_held_out(split)):
            return opened.source.name(index)
        names = (opened.source.name(place) for place in range(opened.size))
        return next(islice((name for name in names if name not in self._corrupt_names), index, None))

    def train_batches(self, sampler: EpochSampler, *, epoch: int, step: int, epochs: int) -> Iterator[Batch]:
        """Yield this rank's batches from (epoch, step) to the end of epoch `epochs` - 1, with the same workers.

        Images are [B, C, H, W], float32 and normalised; images and labels are on the device. Raises TrainingError when
        more than `skip_corrupt` distinct images cannot be read.
        """
        split = self._split("train")
        loader = split.train_loader(self._train_transform, sampler, epoch=epoch, step=step, epochs=epochs)
        workers = split.num_workers(self.workers, sampler.world_size)
        for batch in iterate_batches(loader, workers=workers, device=self.device, seed=sampler.seed):
            self.record_corrupt(batch.corrupt)
            yield self._to_device(batch)

    def eval_batches(self, split: str, *, rank: int, world_size: int, batch_size: int) -> Iterator[Batch]:
        """Yield this rank's share of a split, in a fixed order; all ranks together yield every sample once.

        Raises TrainingError for the first image that cannot be read. Of images that are held out from those of
        training, it is left out, and counts as an unreadable training image.
        """
        for batch in self._read_split(split, rank=rank, world_size=world_size, batch_size=batch_size):
            if batch.corrupt and not self.is_held_out(split):
                message = f"an image of the {split} split cannot be read: {batch.corrupt[0]}"
                raise TrainingError(f"{message}; repair or remove it: accuracy is measured on the whole split")
            self.record_corrupt(batch.corrupt)
            if len(batch.labels) or batch.failure:
                yield self._to_device(batch)

    def find_corrupt(self, split: str, on_progress: Callable[[int], None] | None = None) -> list[CorruptImage]:
        """Read every image of a split and return those that cannot be read.

        `on_progress` is called with the number of images done.
        """
        found: list[CorruptImage] = []
        done = 0
        for batch in self._read_split(split, rank=0, world_size=1, batch_size=CHECK_BATCH):
            if batch.failure:
                raise TrainingError(f"the data cannot be read: {batch.failure}")
            found += batch.corrupt
            done += len(batch.labels) + len(batch.corrupt)
            if on_progress is not None:
                on_progress(done)
        return found

    def _read_split(self, split: str, *, rank: int, world_size: int, batch_size: int) -> Iterator[HostBatch]:
        opened = self._split(split)
        loader = opened.eval_loader(self._eval_transform, rank=rank, world_size=world_size, batch_size=batch_size)
        yield from iterate_batches(loader, workers=opened.num_workers(self.workers, world_size), device=self.device)

    def is_held_out(self, split: str) -> bool:
        """Whether the images of a split are held out from those of training."""
        return self.spec.validation is None and (split == "validation" or (split == "test" and self.spec.test is None))

    def _split(self, split: str) -> StreamedSplit:
        if split == "test" and self.spec.test is None:
            split = "validation"
        if split not in self._splits:
            self._splits[split] = open_split(self.spec, split, mode=self._mode)
        return self._splits[split]

    def record_corrupt(self, found: Sequence[CorruptImage]) -> None:
        """Record the corrupt images that are new. Raises TrainingError when there are too many."""
        new = {corrupt.name: corrupt for corrupt in found if corrupt.name not in self._corrupt_names}
        self._corrupt_names.update(new)
        self.corrupt_images += map(str, new.values())
        count = len(self.corrupt_images)
        if count > self.spec.skip_corrupt:
            message = f"{plural(count, 'training image')} cannot be read, "
            message += f"and train.data.skip_corrupt is {self.spec.skip_corrupt}; the last: "
            names = "; ".join(self.corrupt_images[-NAMES_IN_MESSAGE:])
            raise TrainingError(f"{message}{names}. Repair or remove them, or raise skip_corrupt")

    def _to_device(self, batch: HostBatch) -> Batch:
        """Move a batch to the device, normalise it and fill the erased patches.

        Raises TrainingError for a worker's failure and for a label out of range.
        """
        if batch.failure:
            raise TrainingError(f"the data cannot be read: {batch.failure}")
        least, most = batch.labels.aminmax()
        if least < 0 or most >= self.num_classes:
            label = int(most if least >= 0 else least)
            message = f"an image has label {label}, and the data have {plural(self.num_classes, 'class')}"
            raise TrainingError(f"{message}; labels count from 0 (train.data.num_classes)")
        images = batch.images.to(self.device, non_blocking=True).float().div_(255).sub_(self._mean).div_(self._std)
        labels, noise = (tensor.to(self.device, non_blocking=True) for tensor in (batch.labels, batch.noise))
        start = 0
        for image, top, left, height, width in batch.boxes.tolist():
            shape = (len(self.mean), height, width)
            patch = noise[start : (start := start + shape[0] * height * width)].view(shape)
            images[image, :, top : top + height, left : left + width] = patch
        return images, labels


def resolve_streamed(spec: Streamed) -> Streamed:
    """Return data whose splits and augmentation are written out. Raises FieldError when files are missing."""
    resolved = resolve_data(spec)
    assert isinstance(resolved, Streamed)
    return resolved


def open_split(spec: Streamed, split: str, *, mode: str) -> StreamedSplit:
    """Open the split that the spec calls "train", "validation" or "test". Raises FieldError when it is not there.

    Without images of its own, "test" is the validation split, and that is held out of the training images.
    """
    spec = resolve_streamed(spec)
    field = "validation" if split == "test" and spec.test is None else split
    name = {"train": spec.train, "validation": spec.validation, "test": spec.test}[field]
    opened: StreamedSplit
    match spec:
        case FolderData() | CsvData():
            files = _open_files(spec, field, name)
            opened, where = MapStyleSplit(files, mode, spec.skip_corrupt), files.folder
        case TimmData():
            assert name is not None
            timm_split, dataset = open_timm_split(spec, name, mode=mode)
            where = spec.name
            if not timm_split.is_map_style:
                opened, where = (
                    open_iterable_split(timm_split, dataset),
                    f"{spec.name} (num_samples of its description)",
                )
            elif timm_split.family == "torch":
                opened = MapStyleSplit(TorchvisionSource(dataset, timm_split), mode, spec.skip_corrupt)
            else:
                opened = MapStyleSplit(TimmIndexedSource(dataset.reader, timm_split), mode, spec.skip_corrupt)
        case PythonData():
            raise missing_datasets()
    if not opened.size:
        raise FieldError(("train", "data", field), "data", f"no images in {where}", "name a split that has some")
    return opened


def _open_files(spec: UserImages, field: str, name: str | None) -> ImageFiles:
    """Open a split of resolved data; where validation has no name, the training images without the held-out ones."""
    held = spec.validation is None and field != "test"
    classes = list(class_names(spec) or ())
    if isinstance(spec, CsvData):
        files: ImageFiles = open_csv(spec, "train" if held else field, spec.train if held else str(name), classes)
    else:
        folder = spec.train if held else str(name)
        required = ("train", "data", "train") if held or field == "train" else None
        files = ImageFolder(data_root(spec.root) / folder, classes, every_class=required)
    if not held:
        return files
    train, validation = hold_out(files, float(spec.holdout or HOLDOUT))
    return train if field == "train" else validation


def missing_datasets() -> FieldError:
    """Return the error for data of a Python program where there is no such program."""
    hint = "pass data=(train_set, val_set) to t2tbuild.train or t2tbuild.search, or name data of kind: folder"
    return FieldError(("train", "data", "kind"), "python-data", "these data were datasets of a Python program", hint)


def iterate_batches(loader: LoaderFactory, *, workers: int, device: torch.device, seed: int = 0) -> Iterator[HostBatch]:
    """Yield the batches of a loader. However the iteration ends, no worker process is left.

    Draws nothing from torch's global generator; `seed` seeds the workers. Raises TrainingError when a worker dies.
    """
    running = _LoaderProcesses(loader, workers=workers, device=device, seed=seed)
    atexit.register(running.stop)  # runs before multiprocessing's own exit handler, which waits for the workers
    failure = ""
    try:
        while True:
            try:
                batch = next(running.iterator)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError, MemoryError) as error:
                if not workers or (isinstance(error, RuntimeError) and "DataLoader worker" not in str(error)):
                    raise
                failure = (str(error).strip() or type(error).__name__).splitlines()[-1]
                break
            if batch is not None:
                yield batch
    finally:
        atexit.unregister(running.stop)
        running.stop()
    cause = "a worker process that reads images died, perhaps for lack of memory (shared memory: df -h /dev/shm)"
    raise TrainingError(f"{cause}: {failure}; lower train.data.workers")


class _LoaderProcesses:
    """A DataLoader's iterator and the worker processes that it started."""

    def __init__(self, loader: LoaderFactory, *, workers: int, device: torch.device, seed: int) -> None:
        others = set(multiprocessing.active_children())
        # the workers start with the signals blocked, so that none of them dies before it ignores them
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more than cores
                warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
                # without a generator, DataLoader draws the workers' seeds from the global one
                generator = torch.Generator().manual_seed(seed)
                pinned = device.type == "cuda"
                made = loader(
                    num_workers=workers, worker_init_fn=_prepare_worker, pin_memory=pinned, generator=generator
                )
                self.iterator: Any = iter(made)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self.processes = [process for process in multiprocessing.active_children() if process not in others]

    def stop(self) -> None:
        """End the workers: torch ends them when the iterator is deleted; one that hangs is killed."""
        with _default_sigchld():
            self.iterator = iter(())
            for process in self.processes:
                if process.is_alive():
                    process.kill()
                    process.join(KILL_TIMEOUT)


@contextmanager
def _default_sigchld() -> Iterator[None]:
    """Disable torch's handler of SIGCHLD, which would raise for a dead worker while the others are stopped."""
    handler = signal.getsignal(signal.SIGCHLD)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _prepare_worker(_worker: int) -> None:
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    # As a forked worker, a spawned one ends without finalising Python, which aborts while its queue's thread runs.
    atexit.register(os._exit, 0)
