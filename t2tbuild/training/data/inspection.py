"""What is in a dataset: counts, sizes, unreadable images, and near-duplicates across its splits.

Every image is read once, by threads: decoding leaves the interpreter's lock. 24 bytes are kept of each; the pixels of
the few images that may be duplicates are read again.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2tbuild.errors import InputError
from t2tbuild.image_mode import UPRIGHT, orientation
from t2tbuild.spec.data import AnyData, FolderData, Streamed, data_root
from t2tbuild.training.data.dataset import CorruptImage, ImageSource, MapStyleSplit, OnProgress, SplitName, read_image
from t2tbuild.training.data.loader import open_split
from t2tbuild.training.dataset_paths import class_names, count_classes
from t2tbuild.training.folder_layout import FLAT, count_unread

MAX_THREADS = 8
WINDOW = 256  # images that are read between two reports of progress
MAX_DISTANCE = 4
"""Largest number of bits in which the hashes of near-duplicates differ, of 64."""
CANDIDATES = 5  # images with the nearest hashes, whose pixels are compared with those of one image
MAX_COMPARED = 2000  # images of a pair of splits whose pixels are compared
COMPARED_HASHES = 2**21  # pairs of hashes that are compared at once
SIDE = 32  # of the images whose pixels are compared
MAX_DIFFERENCE = 8.0  # mean difference of the pixels of near-duplicates, of 255
MAX_FLAT_DIFFERENCE = 2.0  # the same for images without contrast
MIN_CONTRAST = 4.0
MIN_CORRELATION = 0.9


@dataclass
class SplitFacts:
    """The images of a split.

    Attributes:
        labels: Class number of each image, -1 for an unreadable one.
        sizes: Width and height of each image in pixels, upright, [N, 2].
        hashes: Difference hash of each image, 64 bits.
        modes: Number of images in each mode of PIL, such as RGB, L, RGBA, I;16.
        rotated: Number of images that their EXIF orientation turns or mirrors.
        unreadable: The images that cannot be read, with the reason.
    """

    name: SplitName
    source: ImageSource
    labels: NDArray[np.int32]
    sizes: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    modes: Counter[str] = field(default_factory=Counter)
    rotated: int = 0
    unreadable: list[CorruptImage] = field(default_factory=list)

    @property
    def readable(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.labels >= 0)

    def counts(self, classes: int) -> list[int]:
        """Return the number of readable images of each class."""
        found: list[int] = np.bincount(self.labels[self.readable], minlength=classes).tolist()
        return found


class Duplicate(NamedTuple):
    """Two images of two splits that are nearly the same, and whether they have the same label."""

    name: str
    other: str
    same_class: bool


@dataclass
class Leakage:
    """Images of one split that are nearly the same as images of another.

    `complete` is false where so many images had near hashes that not all of their pixels were compared; there may then
    be more duplicates.
    """

    split: SplitName
    other: SplitName
    duplicates: list[Duplicate] = field(default_factory=list)
    complete: bool = True


@dataclass
class Inspection:
    """What is in a dataset.

    `unread` has the number of files, by suffix, that look like images and are not read.
    """

    classes: tuple[str, ...]
    splits: list[SplitFacts]
    leakage: list[Leakage]
    unread: Counter[str] = field(default_factory=Counter)


def inspect(data: AnyData, on_progress: OnProgress | None = None) -> Inspection:
    """Read every image of resolved data, and compare its splits.

    Raises FieldError when the data is missing, and InputError for data that has no image files.
    """
    if not isinstance(data, Streamed):
        raise InputError(f"{data.kind}: has no image files to inspect; name a folder of images")
    names = class_names(data) or tuple(map(str, range(count_classes(data))))
    wanted: list[SplitName] = ["train", "validation"]
    if data.test is not None:
        wanted.append("test")
    splits = [_inspect_split(data, split, on_progress) for split in wanted]
    leakage = [find_duplicates(later, earlier) for earlier, later in combinations(splits, 2)]
    return Inspection(names, splits, leakage, _count_unread(data))


def _count_unread(data: Streamed) -> Counter[str]:
    """Count the files in the folders of the splits that look like images and are not read."""
    if not isinstance(data, FolderData):
        return Counter()
    root = data_root(data.root)
    if FLAT in (data.train, data.validation, data.test):
        return count_unread(root)
    folders = {name for name in (data.train, data.validation, data.test) if name is not None}
    return sum((count_unread(root / name) for name in folders), Counter[str]())


class _Read(NamedTuple):
    """What is kept of an image."""

    label: int
    size: tuple[int, int]
    hash: int
    mode: str
    rotated: bool


def _inspect_split(data: Streamed, split: SplitName, on_progress: OnProgress | None) -> SplitFacts:
    opened = open_split(data, split, mode="RGB")
    if not isinstance(opened, MapStyleSplit):
        raise InputError(f"{split}: its images cannot be read by index; hfds/ or a folder can be inspected")
    source, size = opened.source, opened.size
    facts = SplitFacts(
        split,
        source,
        labels=np.full(size, -1, np.int32),
        sizes=np.zeros((size, 2), np.int32),
        hashes=np.zeros(size, np.uint64),
    )
    for index, found in enumerate(_read_all(source, size, partial(_report, on_progress, split))):
        if isinstance(found, CorruptImage):
            facts.unreadable.append(found)
            continue
        facts.labels[index], facts.sizes[index], facts.hashes[index] = found.label, found.size, found.hash
        facts.modes[found.mode] += 1
        facts.rotated += found.rotated
    return facts


def _report(on_progress: OnProgress | None, split: str, done: int, total: int) -> None:
    if on_progress is not None:
        on_progress(split, done, total)


def _read_all(source: ImageSource, size: int, report: Callable[[int, int], None]) -> Iterator[_Read | CorruptImage]:
    """Yield what is kept of each image, in order. No more images are in memory than there are threads."""
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore")  # the filters of threads would be left in any order
        for start in range(0, size, WINDOW):
            end = min(size, start + WINDOW)
            yield from pool.map(partial(_read_one, source), range(start, end))
            report(end, size)


class _Recorder:
    """A source that notes how the image that it reads is stored."""

    def __init__(self, source: ImageSource) -> None:
        self.source, self.mode, self.rotated = source, "", False

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def read(self, index: int) -> tuple[Image.Image, int]:
        image, label = self.source.read(index)
        self.mode, self.rotated = image.mode, orientation(image) in UPRIGHT
        return image, label


def _read_one(source: ImageSource, index: int) -> _Read | CorruptImage:
    recorder = _Recorder(source)
    found = read_image(recorder, index, mode="L")
    if isinstance(found, CorruptImage):
        return found
    image, label = found
    return _Read(label, image.size, difference_hash(image), recorder.mode, recorder.rotated)


def difference_hash(image: Image.Image) -> int:
    """Return 64 bits: whether each pixel of the gray image at 9 x 8 pixels is darker than its right neighbour."""
    small = np.asarray(image.resize((9, 8), Image.Resampling.BILINEAR, reducing_gap=2.0), dtype=np.int16)
    return int.from_bytes(np.packbits(small[:, :-1] < small[:, 1:]).tobytes())


def find_duplicates(split: SplitFacts, other: SplitFacts) -> Leakage:
    """Return the images of a split that are nearly the same as an image of another, each once."""
    found = Leakage(split.name, other.name)
    own, others = split.readable, other.readable
    own_pixels, other_pixels = (lru_cache(4096)(partial(_thumbnail, one.source)) for one in (split, other))
    compared = 0
    rows = max(1, COMPARED_HASHES // max(1, len(others)))
    for start in range(0, len(own), rows):
        chosen = own[start : start + rows]
        distances = np.bitwise_count(split.hashes[chosen][:, None] ^ other.hashes[others][None])
        near = distances <= MAX_DISTANCE
        for row in np.flatnonzero(near.any(axis=1)):
            if compared == MAX_COMPARED:
                found.complete = False
                return found
            compared += 1
            columns = np.flatnonzero(near[row])
            nearest = columns[np.argsort(distances[row, columns], kind="stable")[:CANDIDATES]]
            index = int(chosen[row])
            pixels = own_pixels(index)
            for candidate in map(int, others[nearest]):
                if _is_same(pixels, other_pixels(candidate)):
                    same_class = bool(split.labels[index] == other.labels[candidate])
                    names = split.source.name(index), other.source.name(candidate)
                    found.duplicates.append(Duplicate(*names, same_class))
                    break
    return found


def _thumbnail(source: ImageSource, index: int) -> Any:
    found = read_image(source, index, mode="RGB")
    if isinstance(found, CorruptImage):  # it was readable a moment ago
        return np.zeros((SIDE, SIDE, 3), np.float32)
    return np.asarray(found[0].resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0), dtype=np.float32)


def _is_same(one: Any, other: Any) -> bool:
    difference = float(np.abs(one - other).mean())
    if min(one.std(), other.std()) < MIN_CONTRAST:
        return difference <= MAX_FLAT_DIFFERENCE
    return difference <= MAX_DIFFERENCE and np.corrcoef(one.ravel(), other.ravel())[0, 1] >= MIN_CORRELATION
