"""Images in one folder per class."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t2tbuild.errors import FieldError
from t2tbuild.training.dataset_paths import IMAGE_SUFFIXES


class ImageFolder:
    """The images below FOLDER/CLASS, at any depth, class by class, sorted by path; labels index `classes`.

    Paths are kept in one bytes string: the reference counts of a list of a million would copy it into each worker.
    Raises FieldError for a class without images, at the field `every_class`, if given.
    """

    def __init__(self, folder: Path, classes: list[str], *, every_class: tuple[str, ...] | None = None) -> None:
        self.folder = os.fspath(folder.absolute())
        paths: list[bytes] = []
        counts = []
        for name in classes:
            found = sorted(_list_images(os.path.join(self.folder, name)))  # noqa: PTH118 - a million paths in a second
            counts.append(len(found))
            paths += [os.fsencode(os.path.relpath(path, self.folder)) for path in found]
        empty = [name for name, count in zip(classes, counts, strict=True) if not count]
        if every_class and empty:
            more = f"; classes without images: {len(empty)}" if empty[1:] else ""
            message = f"{folder / empty[0]} has no images{more}"
            raise FieldError(every_class, "data-classes", message, f"images end in {', '.join(IMAGE_SUFFIXES)}")
        self._paths = b"".join(paths)
        self._ends = np.cumsum([len(path) for path in paths], dtype=np.int64)
        self._labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def labels(self) -> np.ndarray[Any, Any]:
        """The labels of all images."""
        return self._labels

    def name(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        path = os.fsdecode(self._paths[start : self._ends[index]])
        return os.path.join(self.folder, path)  # noqa: PTH118

    def read(self, index: int) -> tuple[Image.Image, int]:
        with open(self.name(index), "rb") as file:  # noqa: PTH123 - as PIL does
            image = Image.open(file)
            image.load()
        return image, int(self._labels[index])


def _list_images(folder: str) -> list[str]:
    """Return the paths of the images below a folder; a class folder that cannot be listed counts as empty."""
    found = []
    for base, _, names in os.walk(folder, followlinks=True):
        if os.sep + "." not in base[len(folder) :]:  # hidden folders belong to other programs
            visible = (name for name in names if not name.startswith("."))
            found += [f"{base}{os.sep}{name}" for name in visible if name.lower().endswith(IMAGE_SUFFIXES)]
    return found
