"""Paths of datasets on this machine, and errors when they are missing. Torch-free, so that errors come at once."""

from pathlib import Path

from t2tbuild.errors import FieldError
from t2tbuild.spec.data import DATA_VARIABLE, AnyData, CifarData, FolderData, data_root

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Suffixes of image files, in lower case."""

_ROOT = ("train", "data", "root")
CIFAR_FILES = {
    "cifar10": ("cifar-10-batches-py", tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
    "cifar100": ("cifar-100-python", ("train",), "test"),
}
"""Folder, training files and test file of each CIFAR dataset, as published."""


def count_classes(data: AnyData) -> int:
    """Return the number of classes of a dataset. Raises FieldError when its files are missing."""
    match data:
        case FolderData():
            return len(list_class_folders(data))
        case CifarData():
            find_cifar_folder(data)
            return data.num_classes
        case _:
            return data.num_classes


def class_names(data: AnyData) -> tuple[str, ...] | None:
    """Return the names of a dataset's classes in the order of its labels; None where they have only numbers.

    Bytes of a folder's name that are not UTF-8 are written as escapes. Raises FieldError when the files are missing.
    """
    if not isinstance(data, FolderData):
        return None
    return tuple(name.encode("utf-8", "backslashreplace").decode() for name in list_class_folders(data))


def list_class_folders(data: FolderData) -> list[str]:
    """Return the class names in order. Raises FieldError when a split is missing, or has a class that train has not."""
    root = data_root(data.root)
    layout = f"{root}/{data.train}/CLASS/*.jpg and {root}/{data.validation}/CLASS/*.jpg"
    classes: list[str] = []
    for field, name in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        if name is None:
            continue
        folder = root / name
        inside = [child for child in folder.iterdir() if child.is_dir()] if folder.is_dir() else []
        found = sorted(child.name for child in inside if not child.name.startswith("."))
        if not found:
            message = f"no class folders in {folder.absolute()}"
            if not folder.is_dir():
                message = f"there is no folder {folder.absolute() if root.is_dir() else root.absolute()}"
            raise _missing_data(root, message, f"expected {layout}")
        unknown = sorted(set(found) - set(classes))
        if classes and unknown:
            message = f"{folder} has classes that {root / data.train} does not have: {', '.join(unknown[:5])}"
            raise FieldError(("train", "data", field), "data-classes", message, "every class needs training images")
        classes = classes or found
    return classes


def find_cifar_folder(data: CifarData) -> Path:
    """Return the folder of the files. Raises FieldError when a file is missing."""
    name, train, test = CIFAR_FILES[data.kind]
    root = data_root(data.root)
    folder = root if root.name == name else root / name
    missing = [file for file in (*train, test) if not (folder / file).is_file()]
    if missing:
        message = f"no file {(folder / missing[0]).absolute()}"
        raise _missing_data(
            root, message, f"expected {folder}/{{{', '.join((*train, test))}}}, the unpacked Python version"
        )
    return folder


def _missing_data(root: Path, message: str, expected: str) -> FieldError:
    base = "" if root.is_absolute() else f"; {DATA_VARIABLE} is the folder that relative roots start from"
    return FieldError(_ROOT, "data", message, f"{expected}{base}")
