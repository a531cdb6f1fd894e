"""Files of datasets on this machine: classes, splits and number of images, and errors when files are missing.

Torch-free, so that errors come at once.
"""

import os
from collections.abc import Collection, Iterable
from itertools import chain, islice
from pathlib import Path

from t2tbuild.errors import FieldError
from t2tbuild.spec.data import (
    ALL,
    AUTO,
    DATA_VARIABLE,
    HOLDOUT,
    AnyData,
    Augmentation,
    CifarData,
    CsvData,
    FolderData,
    UserImages,
    data_root,
)
from t2tbuild.spec.diagnostics.introspect import closest_match
from t2tbuild.training.cifar_files import CIFAR_FILES, read_cifar_names
from t2tbuild.training.csv_table import listed_splits, read_table, sort_labels
from t2tbuild.training.folder_layout import (
    FLAT,
    SPLIT_NAMES,
    count_unread,
    describe_folder,
    describe_unread,
    find_parent_of_classes,
    find_splits,
    list_folders,
    walk_images,
)

MILD = Augmentation(crop_scale=(0.5, 1), auto_augment=None, color_jitter=None, random_erasing=0)
"""Augmentation that `augment: auto` takes for small data."""

LARGE = 100_000
"""Number of training images from which `augment: auto` takes ImageNet's augmentation."""

_DATA = ("train", "data")
_ROOT = ("train", "data", "root")
_LAYOUT = "{root}/train/CLASS/*.jpg and {root}/val/CLASS/*.jpg, or {root}/CLASS/*.jpg"


def count_classes(data: AnyData) -> int:
    """Return the number of classes of a dataset. Raises FieldError when its files are missing."""
    match data:
        case FolderData() | CsvData():
            return len(_list_classes(data))
        case CifarData():
            find_cifar_folder(data)
            return data.num_classes
        case _:
            return data.num_classes


def count_training_classes(data: AnyData) -> int:
    """Return the number of classes of data to train on.

    Raises FieldError where files are missing, and where there is only one class.
    """
    classes = count_classes(data)
    if classes == 1 and isinstance(data, UserImages):
        (name,) = _list_classes(data)
        if isinstance(data, FolderData):
            place, field, hint = data.root, _ROOT, "a folder for each class: " + _LAYOUT.format(root="ROOT")
        else:
            place, field, hint = data.file, (*_DATA, "file"), "two or more different labels"
        raise FieldError(field, "data-classes", f"{data_root(place).absolute()} has only one class, {name}", hint)
    return classes


def class_names(data: AnyData) -> tuple[str, ...] | None:
    """Return the names of the classes in the order of their labels, None for data that have only numbers.

    Those of CIFAR are in its meta file. Bytes of a folder's name that are not UTF-8 are written as escapes. Raises
    FieldError when files are missing.
    """
    if isinstance(data, CifarData):
        return read_cifar_names(find_cifar_folder(data), data)
    if not isinstance(data, UserImages):
        return None
    return tuple(name.encode("utf-8", "backslashreplace").decode() for name in _list_classes(data))


def resolve_data(data: AnyData) -> AnyData:
    """Return data whose splits, hold-out and augmentation are written out: no field is `auto`.

    Raises FieldError when files are missing.
    """
    if not isinstance(data, UserImages):
        return data
    resolved = _resolve_splits(data)
    if resolved.augment != AUTO:
        return resolved
    share = 1 - float(resolved.holdout or 0)
    images = count_images(resolved, at_most=round(LARGE / share) + 1) * share
    return resolved.model_copy(update={"augment": default_augmentation(images)})


def default_augmentation(images: float) -> Augmentation:
    """Return the augmentation of `augment: auto` for a number of training images."""
    return Augmentation() if images >= LARGE else MILD


def count_images(data: UserImages, *, at_most: int) -> int:
    """Return the number of images of the training split before any hold-out; counting stops at `at_most`."""
    if isinstance(data, CsvData):
        table, names = read_table(data), set(_list_classes(data))
        return min(at_most, sum(table.labels[row] in names for row in table.rows(data.train)))
    folder = data_root(data.root) / str(data.train)
    paths = chain.from_iterable(walk_images(os.fspath(folder / name)) for name in list_class_folders(data))
    return sum(1 for _ in islice(paths, at_most))


def list_class_folders(data: FolderData) -> list[str]:
    """Return the class names in order. Raises FieldError when a split is missing, or has a class that train has not."""
    data = _resolve_folder(data)
    found = {
        field: _class_folders(data, field, name)
        for field, name in (("train", data.train), ("validation", data.validation), ("test", data.test))
        if name is not None
    }
    names = listed_classes(data, data_root(data.root))
    if names is not None:
        absent = next((name for name in names if name not in found["train"]), None)
        if absent is not None:
            near = closest_match(absent, found["train"])
            message = f"{absent} has no folder in {(data_root(data.root) / data.train).absolute()}"
            raise FieldError((*_DATA, "classes"), "data-classes", message, f"write {near}" if near else "remove it")
        return list(names)
    for field in ("validation", "test"):
        unknown = sorted(set(found.get(field, ())) - set(found["train"]))
        if unknown:
            folder = data_root(data.root) / str(getattr(data, field))
            message = f"{folder} has classes that {data_root(data.root) / data.train} does not have: "
            hint = _hint_for_class(unknown[0], found["train"], found[field])
            raise FieldError((*_DATA, field), "data-classes", message + ", ".join(unknown[:5]), hint)
    return found["train"]


def _hint_for_class(unknown: str, train: Iterable[str], held_out: Collection[str]) -> str:
    """Return what to do about a held-out class without training images. It is not renamed to one that is there too."""
    near = closest_match(unknown, [name for name in train if name not in held_out])
    return f"rename {unknown} to {near}" if near else "every class needs training images"


def listed_classes(data: UserImages, root: Path) -> tuple[str, ...] | None:
    """Return the names of `classes`, from its file where it is one. Raises FieldError when the file cannot be read."""
    if not isinstance(data.classes, str):
        return data.classes
    path, field = root / Path(data.classes).expanduser(), (*_DATA, "classes")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FieldError(
            field, "data-classes", f"{path.absolute()} cannot be read: {reason}", "a text file with one name a line"
        ) from None
    names = tuple(line.strip() for line in lines if line.strip())
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None) if names else ""
    if twice is not None:
        message = f"{path.absolute()} lists {twice} twice" if twice else f"{path.absolute()} is empty"
        raise FieldError(field, "data-classes", message, "write each class on a line of its own")
    return names


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


def _list_classes(data: UserImages) -> list[str]:
    if isinstance(data, FolderData):
        return list_class_folders(data)
    data = _resolve_csv(data)
    table = read_table(data)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    labels_of = {
        field: sort_labels(table.labels[row] for row in table.rows(name, field))
        for field, name in splits.items()
        if name is not None
    }
    labels, names = labels_of["train"], listed_classes(data, table.root)
    if names is None:
        for field in ("validation", "test"):
            unknown = [label for label in labels_of.get(field, ()) if label not in labels]
            if unknown:
                message = f"{table.file} has labels in {field} that its training images do not have: "
                hint = _hint_for_class(unknown[0], labels, labels_of[field])
                raise FieldError((*_DATA, field), "data-classes", message + ", ".join(unknown[:5]), hint)
        return labels
    absent = next((name for name in names if name not in labels), None)
    if absent is not None:
        near = closest_match(absent, labels)
        message = f"no line of {table.file} has the label {absent}"
        raise FieldError((*_DATA, "classes"), "data-classes", message, f"write {near}" if near else "remove it")
    return list(names)


def _resolve_splits(data: UserImages) -> UserImages:
    """Return data with explicit splits and, where images are held out, an explicit share."""
    resolved = _resolve_folder(data) if isinstance(data, FolderData) else _resolve_csv(data)
    if resolved.validation is None and resolved.holdout is None:
        return resolved.model_copy(update={"holdout": HOLDOUT})
    return resolved


def _resolve_folder(data: FolderData) -> FolderData:
    """Return a folder with explicit splits. Raises FieldError when no training images are found."""
    if AUTO not in (data.train, data.validation, data.test):
        return data
    root = data_root(data.root)
    found = find_splits(root)
    train = found.train if data.train == AUTO else data.train
    if train is None:
        base = root.absolute()
        message = f"{base}: {describe_folder(root)}" if root.is_dir() else f"there is no folder {base}"
        unread = describe_unread(count_unread(root))
        message += f"; {unread}" if unread else ""
        raise _missing_data(root, message, _describe_layout(root))
    folders = list_folders(root)
    if train == FLAT and len(folders) == 1 and find_splits(root / folders[0]).train not in (None, FLAT):
        message = f"{root.absolute()} has one folder, {folders[0]}, which has the splits"
        raise FieldError(_ROOT, "data", message, f"write {root / folders[0]}")
    validation = None if data.holdout is not None else found.validation
    explicit = {"train": train, "validation": validation, "test": found.test}
    return data.model_copy(update={field: name for field, name in explicit.items() if getattr(data, field) == AUTO})


def _resolve_csv(data: CsvData) -> CsvData:
    """Return a CSV file with explicit splits. Raises FieldError when a split is not in the file."""
    if AUTO not in (data.train, data.validation, data.test):
        return data
    table = read_table(data)
    known = listed_splits(table)
    changes: dict[str, str | None] = {}
    for field, usual in SPLIT_NAMES.items():
        if getattr(data, field) == AUTO:
            changes[field] = next((name for name in usual if name in known), None)
    if data.holdout is not None and "validation" in changes:
        changes["validation"] = None
    if "train" in changes and not known:
        changes["train"] = ALL
    if "train" in changes and changes["train"] is None:
        message = f"the column split of {table.file} has {', '.join(sorted(known)[:5])}, and none of them is train"
        raise FieldError((*_DATA, "file"), "data", message, "name the training images train in the file")
    return data.model_copy(update=changes)


def _class_folders(data: FolderData, field: str, name: str) -> list[str]:
    """Return the class folders of a split, sorted. Raises FieldError when there are none."""
    root = data_root(data.root)
    folder = root / name
    splits = split_folders(data) if name == FLAT else set()
    found = [one for one in list_folders(folder) if one not in splits]
    if found:
        return found
    if not root.is_dir():
        raise _missing_data(root, f"there is no folder {root.absolute()}", _describe_layout(root))
    if folder.is_dir():
        message = f"no class folders in {folder.absolute()}: {describe_folder(folder)}"
        raise FieldError((*_DATA, field), "data", message, f"expected {folder}/CLASS/*.jpg")
    near = _nearest_split(root, field, name)
    hint = f"expected {folder}/CLASS/*.jpg"
    if near:
        hint = f"write {field}: {near}"
    elif field == "validation":
        hint = "write validation: null, which holds out a tenth of the training images"
    elif field == "train" and find_splits(root).train == FLAT:
        hint = "write train: ."
    elif field == "train" and name in SPLIT_NAMES[field]:
        hint = _describe_layout(root)
    message = f"there is no folder {folder.absolute()}: {root.absolute()}: {describe_folder(root)}"
    raise FieldError((*_DATA, field), "data", message, hint)


def _describe_layout(root: Path) -> str:
    """Return a hint with the layouts of a folder of images, and with its parent where it seems to be one class."""
    hint = f"expected {_LAYOUT.format(root=root)}"
    parent = find_parent_of_classes(root)
    return hint if parent is None else f"write {parent}, if its folders are the classes; {hint}"


def split_folders(data: FolderData) -> set[str]:
    """Return the folders below root that are splits, named by the spec or by their usual names, and no classes."""
    named = (data.validation, data.test, *find_splits(data_root(data.root)))
    return {str(name).split("/")[0] for name in named if name not in (None, FLAT)}


def _nearest_split(root: Path, field: str, name: str) -> str:
    """Return the folder that is probably meant by a missing one."""
    usual = getattr(find_splits(root), field)
    return usual if usual not in (None, FLAT) else closest_match(name, list_folders(root))


def _missing_data(root: Path, message: str, expected: str) -> FieldError:
    base = "" if root.is_absolute() else f"; {DATA_VARIABLE} is the folder that relative roots start from"
    return FieldError(_ROOT, "data", message, f"{expected}{base}")
