"""Where images lie on this machine, and what is told when they do not. Torch-free, so that it is told at once."""

from pathlib import Path

from t2tbuild.errors import FieldError
from t2tbuild.spec.data import DATA_VARIABLE, AnyData, CifarData, FolderData, data_root

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What the names of images end in, in lower case."""

_ROOT = ("train", "data", "root")
CIFAR_FILES = {
    "cifar10": ("cifar-10-batches-py", tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
    "cifar100": ("cifar-100-python", ("train",), "test"),
}
"""Folder, training files and test file of each CIFAR, as its authors pack them."""


def classes_of(data: AnyData) -> int:
    """How many classes the data has. Raises FieldError when it is not where the spec says."""
    match data:
        case FolderData():
            return len(class_folders(data))
        case CifarData():
            cifar_folder(data)
            return data.num_classes
        case _:
            return data.num_classes


def class_folders(data: FolderData) -> list[str]:
    """Names of the classes in order. Raises FieldError when a split is not there, or its classes are others."""
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
            message = f"no folders of classes in {folder.absolute()}"
            if not folder.is_dir():
                message = f"there is no folder {folder.absolute() if root.is_dir() else root.absolute()}"
            raise _missing(root, message, f"expected {layout}")
        strange = sorted(set(found) - set(classes))
        if classes and strange:
            message = f"{folder} has classes that {root / data.train} has not: {', '.join(strange[:5])}"
            raise FieldError(("train", "data", field), "data-classes", message, "every class needs training images")
        classes = classes or found
    return classes


def cifar_folder(data: CifarData) -> Path:
    """The folder that holds the files. Raises FieldError when one of them is not there."""
    name, train, test = CIFAR_FILES[data.kind]
    root = data_root(data.root)
    folder = root if root.name == name else root / name
    missing = [file for file in (*train, test) if not (folder / file).is_file()]
    if missing:
        message = f"no file {(folder / missing[0]).absolute()}"
        raise _missing(root, message, f"expected {folder}/{{{', '.join((*train, test))}}}, the Python version unpacked")
    return folder


def _missing(root: Path, message: str, expected: str) -> FieldError:
    seen = "" if root.is_absolute() else f"; {DATA_VARIABLE} is the folder that roots are seen from"
    return FieldError(_ROOT, "data", message, f"{expected}{seen}")
