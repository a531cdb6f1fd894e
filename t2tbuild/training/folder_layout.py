"""Layout of a folder of images: its splits under their usual names, its class folders, its images. Torch-free."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from t2tbuild.spec.units import is_or_are, plural

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Suffixes of image files, in lower case."""

UNREAD_SUFFIXES = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
)
"""Suffixes of files that look like images and are not read, in lower case: newer formats, and raw ones of cameras."""

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""The usual names of each split, in lower case; the first of them that is there is taken."""

FLAT = "."
"""Name of the training folder where root itself has the class folders."""

SYSTEM_FOLDERS = ("$recycle.bin", "#recycle", "@eadir", "__macosx", "lost+found", "system volume information")
"""Folders that systems and programs leave behind, in lower case, beside hidden ones such as .thumbnails."""


class FolderSplits(NamedTuple):
    """Names of the folders of the splits below a root; None for a split that is not there."""

    train: str | None
    validation: str | None
    test: str | None


def find_splits(root: Path) -> FolderSplits:
    """Find the splits of a folder of images.

    A folder with the name of a split is a split if it has class folders. So folders named train, bus and plane that
    have images directly are three classes.
    """
    folders = list_folders(root)
    splits = {role: _named(root, folders, role) for role in SPLIT_NAMES}
    if splits["train"] is None:
        classes = [name for name in folders if name not in splits.values()]
        usual = {name for names in SPLIT_NAMES.values() for name in names}
        if {name.lower() for name in classes} - usual and any(has_images(root / name) for name in classes):
            splits["train"] = FLAT
    elif splits["validation"] is None:  # named so, but without class folders: an error, not a hold-out
        splits["validation"] = next((name for name in folders if name.lower() in SPLIT_NAMES["validation"]), None)
    return FolderSplits(**splits)


def list_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; none if it is missing. Ignored ones are left out."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as children:  # a folder of a million images costs no million stats
        names = [child.name for child in children if child.is_dir()]
    return sorted(name for name in names if not is_ignored(name))


def is_ignored(name: str) -> bool:
    """Whether a file or folder belongs to a system or another program: hidden ones, and `SYSTEM_FOLDERS`."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def walk_images(folder: str) -> Iterator[str]:
    """Yield the paths of the images below a folder, at any depth; a folder that cannot be listed counts as empty."""
    return (path for path in _walk_files(folder) if path.lower().endswith(IMAGE_SUFFIXES))


def _walk_files(folder: str) -> Iterator[str]:
    """Yield the paths of the files below a folder, at any depth, without ignored ones.

    A folder to which several links lead, as in a loop, is entered once, by the first of its paths.
    """
    seen = {_identity(folder)}
    for base, folders, names in os.walk(folder, followlinks=True):
        entered = []
        for name in sorted(folders):
            identity = _identity(f"{base}{os.sep}{name}")
            if identity not in seen and not is_ignored(name):
                seen.add(identity)
                entered.append(name)
        folders[:] = entered  # os.walk enters those that are left
        yield from (f"{base}{os.sep}{name}" for name in names if not is_ignored(name))


def _identity(folder: str) -> tuple[int, int] | str:
    """Return what is equal for two paths of one folder; the path where the file system does not say: no number."""
    try:
        status = os.stat(folder)  # noqa: PTH116 - a million times
    except OSError:
        return folder
    return (status.st_dev, status.st_ino) if status.st_ino else folder


def count_unread(folder: Path) -> Counter[str]:
    """Return the number of files below a folder that look like images and are not read, by their suffix."""
    suffixes = (os.path.splitext(path)[1].lower() for path in _walk_files(os.fspath(folder)))  # noqa: PTH122
    return Counter(suffix for suffix in suffixes if suffix in UNREAD_SUFFIXES)


def describe_unread(counts: Counter[str]) -> str:
    """Return a message with the numbers of `count_unread` and what to do; empty where there are no such files."""
    if not counts:
        return ""
    kinds = ", ".join(f"{suffix} {count:,}" for suffix, count in counts.most_common())
    total = counts.total()
    return f"{plural(total, 'file')} {is_or_are(total)} not read: {kinds}; convert such images to JPEG or PNG"


def describe_other_missing(others: int) -> str:
    """Return the end of a message on a missing file, with the number of other missing ones; empty without others."""
    return f", and {plural(others, 'other file')} {is_or_are(others)} missing" if others else ""


def has_images(folder: Path) -> bool:
    """Whether there is an image below a folder."""
    return next(walk_images(os.fspath(folder)), None) is not None


def find_parent_of_classes(folder: Path) -> Path | None:
    """Return the data folder that a folder of images, named in its place, is probably a class of; None without one.

    Its parent has another folder of images; above a split such as train it is the parent of the split.
    """
    folder = folder.absolute()
    if list_folders(folder) or not _has_own_images(folder):
        return None
    parent = folder.parent
    siblings = (parent / name for name in list_folders(parent) if name != folder.name)
    if not any(_has_own_images(sibling) for sibling in siblings):
        return None
    usual = {name for names in SPLIT_NAMES.values() for name in names}
    return parent.parent if parent.name.lower() in usual else parent


def _has_own_images(folder: Path) -> bool:
    """Whether there is an image directly in a folder; a folder that cannot be listed counts as empty."""
    try:
        with os.scandir(folder) as children:
            names = (child.name for child in children if not is_ignored(child.name))
            return any(name.lower().endswith(IMAGE_SUFFIXES) for name in names)
    except OSError:
        return False


def describe_folder(folder: Path, most: int = 5) -> str:
    """Return what is in a folder, for a message: its folders, or else its number of images and other files."""
    folders = list_folders(folder)
    if folders:
        more = f" and {len(folders) - most} more" if len(folders) > most else ""
        return f"found folders {', '.join(folders[:most])}{more}"
    files = [child.name for child in folder.iterdir() if not is_ignored(child.name)]
    images = sum(name.lower().endswith(IMAGE_SUFFIXES) for name in files)
    if images:
        return f"found {plural(images, 'image')} and no folders"
    return f"found {plural(len(files), 'file')}, none of them an image" if files else "it is empty"


def _named(root: Path, folders: list[str], role: str) -> str | None:
    """Return the folder of a split: one with a usual name that has class folders."""
    named = {name.lower(): name for name in reversed(folders)}
    found = (named[usual] for usual in SPLIT_NAMES[role] if usual in named)
    return next((name for name in found if list_folders(root / name)), None)
