"""The files of CIFAR-10 and CIFAR-100 as published, and the names of their classes. Torch-free."""

import pickle
from pathlib import Path
from typing import Any

from t2tbuild.spec.data import CifarData

CIFAR_FILES = {
    "cifar10": ("cifar-10-batches-py", tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
    "cifar100": ("cifar-100-python", ("train",), "test"),
}
"""Folder, training files and test file of each CIFAR dataset."""

META = {"cifar10": ("batches.meta", "label_names"), "cifar100": ("meta", "fine_label_names")}
"""File with the names of the classes, and their key in it."""

PICKLE_NAMES = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}
"""The names that the files may import: those that make an array of bytes."""


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler of arrays, text and numbers; it refuses everything else, which could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PICKLE_NAMES:
            raise pickle.UnpicklingError(f"it imports {module}.{name}, which does not make an array")
        return super().find_class(module, name)


def unpickle(file: Path) -> Any:
    """Return the content of a file. Raises any error for a damaged one."""
    with file.open("rb") as stream:
        return _ArrayUnpickler(stream, encoding="latin1").load()


def read_cifar_names(folder: Path, data: CifarData) -> tuple[str, ...] | None:
    """Return the names of the classes from the meta file in the data's folder, None where it has none."""
    file, key = META[data.kind]
    try:
        names = tuple(map(str, unpickle(folder / file)[key]))
    except Exception:  # a damaged pickle can raise any type, and the images can be used without names
        return None
    return names if len(set(names)) == len(names) == data.num_classes else None
