"""Images from files for proxy training: decoded once at a small size, cached, and mapped into memory."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from t2tbuild.errors import FieldError, TrainingError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import Augmentation, Streamed, data_root
from t2tbuild.spec.units import plural
from t2tbuild.training.data.dataset import CorruptImage, ImageSource, MapStyleSplit, SplitName, read_image
from t2tbuild.training.data.image_cache import CacheCallbacks, CachedImages, open_cache
from t2tbuild.training.data.in_memory import InMemoryData, InMemorySplit, normalize, shift_and_flip
from t2tbuild.training.data.loader import open_split, resolve_streamed
from t2tbuild.training.data.python_datasets import PythonDatasets, PythonSource
from t2tbuild.training.data.timm_datasets import TimmIndexedSource
from t2tbuild.training.data.transforms import ImageTransform, channel_statistics, evaluation_transform, fork_rng
from t2tbuild.training.dataset_paths import count_classes
from t2tbuild.training.seeds import fold_in

FORMAT = 1
"""Version of the cached files; a cache of another version is not read."""
MAX_THREADS = 16
MIN_VALIDATION_IMAGES = 1000
NAMES_IN_MESSAGE = 3
SAMPLED_IMAGES = 64
IGNORED_FIELDS = {"augment", "workers", "skip_corrupt", "mean", "std", "image_size"}
"""Fields of the data that do not change the decoded bytes, and the image size, which is part of the key by itself."""


def load_cached(
    spec: Streamed,
    *,
    image: Grid,
    in_chans: int,
    device: torch.device,
    images: int,
    seed: int,
    folder: Path,
    callbacks: CacheCallbacks | None = None,
    datasets: PythonDatasets | None = None,
) -> InMemoryData:
    """Load data from files as images of `image` pixels, decoded once into a cache in `folder`.

    Of more than `images` training images a stratified subset is taken, drawn by `seed`; of the validation images a
    tenth as many, or 1,000. Images are resized and cropped as for evaluation. Mean and deviation are those of the
    training images. Augmentation is a random shift by up to an eighth of the side and the flips of `spec.augment`.
    A GPU holds all images where they fit into half of its free memory. `datasets` are those of `kind: python`.

    An unreadable training or held-out image is replaced by the next one of its split, and `corrupt_images` names it.
    Raises FieldError when the data are not where the spec says, or cannot be read by index, and TrainingError for an
    unreadable image in validation or test images of their own, for more than `skip_corrupt` other ones, and where no
    image of a split can be read.
    """
    spec = resolve_streamed(spec)
    channel_statistics(spec, in_chans)  # raises an error for other channels than 1 or 3
    classes = count_classes(spec)
    largest = {"train": images, "validation": max(MIN_VALIDATION_IMAGES, images // 10), "test": images}
    names: tuple[SplitName, ...] = ("train", "validation") if spec.test is None else ("train", "validation", "test")
    cached, mode = {}, "L" if in_chans == 1 else "RGB"
    replaced: dict[str, None] = {}
    keys: list[str] = []
    for name in names:
        source = _open_by_index(spec, name, mode) if datasets is None else datasets.sources[name]
        reader = _Reader(
            spec, name, source, image=image, in_chans=in_chans, limit=largest[name], seed=seed, replaced=replaced
        )
        keys.append(reader.key)
        cached[name] = reader.open(folder, callbacks or CacheCallbacks())
        _check_labels(cached[name].labels, classes)
    on_device = _fits(sum(split.images.nbytes for split in cached.values()), device)
    splits = {name: _to_split(split, device, on_device=on_device) for name, split in cached.items()}
    mean, std = _statistics(cached["train"])
    augment = spec.augment
    hflip = float(augment.hflip) if isinstance(augment, Augmentation) else 0.5
    shift = partial(
        shift_and_flip,
        max_shift=max(image) // 8,
        hflip=hflip,
        black=[-one / deviation for one, deviation in zip(mean, std, strict=True)],
    )
    return InMemoryData(
        {"test": splits["validation"], **splits},
        num_classes=classes,
        mean=mean,
        std=std,
        prepare=partial(normalize, mean=mean, std=std),
        augment=None if augment is None else shift,
        numbers_per_sample=3,
        corrupt_images=tuple(replaced),
        fingerprint=" ".join(keys),
    )


class _Reader:
    """A split of images, of which some are decoded.

    `replaced` has the names of the unreadable images in the training split and in the hold-out, which count together.
    """

    def __init__(
        self,
        spec: Streamed,
        split: SplitName,
        source: ImageSource,
        *,
        image: Grid,
        in_chans: int,
        limit: int,
        seed: int,
        replaced: dict[str, None],
    ) -> None:
        self.spec, self.split, self.shape = spec, split, (in_chans, *image)
        self.mode = "L" if in_chans == 1 else "RGB"
        self.source, self.seed = source, seed
        self.is_training = split == "train" or (split == "validation" and spec.validation is None)
        self.skip = spec.skip_corrupt if self.is_training else 0
        self.corrupt = replaced if self.is_training else {}
        self.transform: ImageTransform = evaluation_transform(spec, image)
        labels = labels_of(self.source)
        self.is_subset = len(self.source) > limit
        self.chosen = choose_images(len(self.source), labels, limit, seed)
        self.about: dict[str, Any] = {
            "format": FORMAT,
            "split": split,
            "data": spec.model_dump(mode="json", exclude=IGNORED_FIELDS),
            "image": list(self.shape),
            "images": limit if self.is_subset else None,
            "seed": seed if self.is_subset else None,
        }
        files = fingerprint(self.source, labels, data_root(getattr(spec, "root", None) or "."))
        self.key = f"{split}-{hashlib.sha256(json.dumps([self.about, files]).encode()).hexdigest()[:24]}"

    def open(self, folder: Path, callbacks: CacheCallbacks) -> CachedImages:
        """Open the cache of this split, and make it where it is missing."""
        threads = self.spec.workers or min(MAX_THREADS, os.cpu_count() or 1)
        if isinstance(self.source, PythonSource):
            threads = 1  # it may draw random numbers, and is not known to be safe with threads
        count = len(self.chosen)
        with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:  # threads share the filters of warnings
            decode = partial(self._decode, pool)
            found = open_cache(
                folder, self.key, self.about, count=count, shape=self.shape, decode=decode, callbacks=callbacks
            )
        self._check_corrupt(found.corrupt)
        return found

    def _decode(self, pool: ThreadPoolExecutor, positions: range) -> Iterator[tuple[Any, int, tuple[str, ...]]]:
        """Yield the images at some positions of the subset, in order, decoded by threads."""
        waiting = [pool.submit(self._read, int(index)) for index in self.chosen[positions.start : positions.stop]]
        try:
            for future in waiting:
                pixels, label, corrupt = future.result()
                self._check_corrupt(map(str, corrupt))
                if pixels is None:
                    message = f"no image of the {self.split} split can be read; the last: {corrupt[-1]}"
                    raise TrainingError(f"{message}. Repair them, or name images that can be read")
                yield pixels, label, tuple(map(str, corrupt))
        finally:
            for future in waiting:
                future.cancel()

    def _read(self, index: int) -> tuple[np.ndarray[Any, Any] | None, int, list[CorruptImage]]:
        """Decode an image; where images are skipped, a corrupt one is replaced by the next readable one of the split.

        Without pixels, there are too many corrupt images, or no other ones.
        """
        corrupt: list[CorruptImage] = []
        while len(corrupt) <= min(self.skip, len(self.source) - 1):
            place = (index + len(corrupt)) % len(self.source)
            with fork_rng(fold_in(self.seed, place)) if isinstance(self.source, PythonSource) else nullcontext():
                found = read_image(self.source, place, mode=self.mode)
            if not isinstance(found, CorruptImage):
                pixels, _ = self.transform(found[0])
                return pixels.numpy(), found[1], corrupt
            corrupt.append(found)
        return None, -1, corrupt

    def _check_corrupt(self, names: Iterable[str]) -> None:
        """Count corrupt images. Raises TrainingError when there are too many."""
        new = [name for name in names if name not in self.corrupt]
        self.corrupt.update(dict.fromkeys(new))
        if len(self.corrupt) <= self.skip:
            return
        if not self.is_training:
            message = f"an image of the {self.split} split cannot be read: {new[0]}"
            raise TrainingError(f"{message}; repair or remove it: accuracy is measured on the whole split")
        listed = "; ".join(list(self.corrupt)[-NAMES_IN_MESSAGE:])
        message = f"{plural(len(self.corrupt), 'training image')} cannot be read, and skip_corrupt is {self.skip}"
        raise TrainingError(f"{message}; the last: {listed}. Repair or remove them, or raise skip_corrupt")


def _open_by_index(spec: Streamed, split: SplitName, mode: str) -> ImageSource:
    opened = open_split(spec, split, mode=mode)
    if isinstance(opened, MapStyleSplit):
        return opened.source
    message = f"{getattr(spec, 'name', spec.kind)} is read in its own order, and a cache of images needs an index"
    raise FieldError(("train", "data", "name"), "data", message, "write hfds/NAME, torch/NAME or a folder of images")


def labels_of(source: ImageSource) -> np.ndarray[Any, Any] | None:
    """Return the labels of all images without reading any, None where the source does not have them."""
    try:
        labels = np.asarray(getattr(source, "labels", ()), dtype=np.int64)
    except (TypeError, ValueError, KeyError):  # of a data set of others: no numbers, or no such column
        return None
    return labels if labels.shape == (len(source),) else None


def choose_images(count: int, labels: np.ndarray[Any, Any] | None, limit: int, seed: int) -> np.ndarray[Any, Any]:
    """Return the sorted indices of at most `limit` images, in each class the same fraction, drawn by `seed`.

    Every class keeps an image while there are enough. Without labels the images are drawn from all.
    """
    if count <= limit:
        return np.arange(count)
    order = np.random.default_rng(seed).permutation(count)
    if labels is None:
        return np.sort(order[:limit])
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = sizes * limit / count
    least = 1 if len(sizes) <= limit else 0
    quota = np.maximum(np.floor(wanted).astype(int), least)
    while (missing := limit - int(quota.sum())) != 0:  # largest remainders
        allowed = quota < sizes if missing > 0 else quota > least
        step = 1 if missing > 0 else -1
        quota[np.argmax(np.where(allowed, step * (wanted - quota), -np.inf))] += step
    place_in_class = np.empty(count, dtype=int)
    in_order = order[np.argsort(classes[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    place_in_class[in_order] = np.arange(count) - np.repeat(starts, sizes)
    return np.flatnonzero(place_in_class < quota[classes])


def fingerprint(source: ImageSource, labels: np.ndarray[Any, Any] | None, root: Path) -> str:
    """Return a sum of the name relative to `root`, the size and the time of change of every file, and of the labels.

    A dataset of a Python program has no files; the sum is of SAMPLED_IMAGES of its images, and of the labels if it has
    `targets` or `labels`.
    """
    digest = hashlib.sha256(f"{len(source)}".encode())
    if labels is not None:
        digest.update(labels.tobytes())
    if isinstance(source, PythonSource):  # it has no files: some of its images stand for all
        for index in np.linspace(0, len(source) - 1, min(len(source), SAMPLED_IMAGES)).astype(int):
            with fork_rng(int(index)):
                image, label = source.read(int(index))
            digest.update(f"{image.mode} {image.size} {label}".encode() + image.tobytes())
        return digest.hexdigest()
    start = f"{root.absolute()}{os.sep}"
    for name in _files_of(source):
        try:
            stat = os.stat(name)  # noqa: PTH116 - a million files
            state = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            state = ""  # no file, or an unreadable one
        digest.update(f"{name.removeprefix(start)}\0{state}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files_of(source: ImageSource) -> Iterator[str]:
    """Yield the names of the files that hold the images; those of a Hugging Face dataset are its tables."""
    if isinstance(source, TimmIndexedSource):
        tables = getattr(source.reader.dataset, "cache_files", ())
        yield from (str(table["filename"]) for table in tables)
    else:
        yield from (source.name(index) for index in range(len(source)))


def _check_labels(labels: np.ndarray[Any, Any], classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        message = f"an image has label {wrong[0]}, and the data have {plural(classes, 'class')}"
        raise TrainingError(f"{message}; labels count from 0 (num_classes)")


def _statistics(cached: CachedImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and deviation of each channel, in values from 0 to 1; the deviation is a grey level at least."""
    values = cached.images.size // len(cached.sums)
    means = [total / values for total in cached.sums]
    deviations = [
        max(square / values - mean**2, 1.0) ** 0.5 for mean, square in zip(means, cached.squares, strict=True)
    ]
    return tuple(mean / 255 for mean in means), tuple(deviation / 255 for deviation in deviations)


def _fits(nbytes: int, device: torch.device) -> bool:
    """Whether a device holds this many bytes. A CPU reads the mapped file, which needs no memory of its own."""
    return device.type == "cuda" and nbytes < torch.cuda.mem_get_info(device)[0] / 2


def _to_split(cached: CachedImages, device: torch.device, *, on_device: bool) -> InMemorySplit:
    images = torch.from_numpy(cached.images)
    return InMemorySplit(images.to(device) if on_device else images, torch.from_numpy(cached.labels).to(device))
