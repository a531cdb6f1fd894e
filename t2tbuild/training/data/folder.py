"""Image files with labels: those of one folder per class, and the split of files into training and hold-out."""

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image

from t2tbuild.errors import FieldError
from t2tbuild.image_mode import load_image
from t2tbuild.training.folder_layout import IMAGE_SUFFIXES, count_unread, describe_unread, walk_images


class ImageFiles:
    """Image files below a folder, and their labels [N].

    Paths are kept in one bytes string: the reference counts of a list of a million would copy it into each worker.
    """

    def __init__(self, folder: str, paths: Sequence[bytes], labels: np.ndarray) -> None:
        self.folder, self.labels = folder, labels
        self._paths = b"".join(paths)
        self._ends = np.cumsum([len(path) for path in paths], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def path(self, index: int) -> bytes:
        """Return the path of an image, relative to the folder."""
        start = self._ends[index - 1] if index else 0
        return self._paths[start : self._ends[index]]

    def name(self, index: int) -> str:
        return os.path.join(self.folder, os.fsdecode(self.path(index)))  # noqa: PTH118

    def read(self, index: int) -> tuple[Image.Image, int]:
        return load_image(self.name(index)), int(self.labels[index])

    def select(self, indices: np.ndarray) -> "ImageFiles":
        """Return some of the images, in the order of `indices`."""
        return ImageFiles(self.folder, [self.path(int(index)) for index in indices], self.labels[indices])


class ImageFolder(ImageFiles):
    """The images below FOLDER/CLASS, at any depth, class by class, sorted by path; labels index `classes`.

    Raises FieldError for a class without images, at the field `every_class`, if given.
    """

    def __init__(self, folder: Path, classes: list[str], *, every_class: tuple[str, ...] | None = None) -> None:
        base = os.fspath(folder.absolute())
        paths: list[bytes] = []
        counts = []
        for name in classes:
            found = sorted(walk_images(os.path.join(base, name)))  # noqa: PTH118 - a million paths in a second
            counts.append(len(found))
            paths += [os.fsencode(os.path.relpath(path, base)) for path in found]
        empty = [name for name, count in zip(classes, counts, strict=True) if not count]
        if every_class and empty:
            more = f"; classes without images: {len(empty)}" if empty[1:] else ""
            message = f"{folder / empty[0]} has no images{more}"
            unread = describe_unread(count_unread(folder / empty[0]))
            message += f"; {unread}" if unread else ""
            raise FieldError(every_class, "data-classes", message, f"images end in {', '.join(IMAGE_SUFFIXES)}")
        super().__init__(base, paths, np.repeat(np.arange(len(classes), dtype=np.int32), counts))


def hold_out(files: ImageFiles, share: float) -> tuple[ImageFiles, ImageFiles]:
    """Split files into training and held-out ones: of each class its share, at least one image, and never all.

    In each class the images with the lowest hashes of their paths are held out. So a file that is added or removed
    moves at most one other. Raises FieldError where no class has two images.
    """
    digests = (blake2b(files.path(index), digest_size=8).digest() for index in range(len(files)))
    hashes = np.fromiter((int.from_bytes(digest) for digest in digests), np.uint64, len(files))
    order = np.lexsort((hashes, files.labels))  # class by class, by hash
    labels = files.labels[order]
    starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]]) if len(labels) else np.empty(0, int)
    counts = np.diff(np.r_[starts, len(labels)])
    held = np.minimum(np.maximum(np.rint(counts * share).astype(int), 1), counts - 1)
    rank = np.arange(len(labels)) - np.repeat(starts, counts)
    is_held = np.zeros(len(files), bool)
    is_held[order] = rank < np.repeat(held, counts)
    if not is_held.any():
        message = f"no class of {files.folder} has two images, so that one of them could be held out for validation"
        raise FieldError(("train", "data", "validation"), "data", message, "name images for validation")
    return files.select(np.flatnonzero(~is_held)), files.select(np.flatnonzero(is_held))
