"""The images that a user names: files, and folders of images at any depth. Torch-free, so that errors come at once."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.files import exists, is_dir
from t2tbuild.training.folder_layout import count_unread, describe_folder, describe_unread, walk_images


@dataclass(frozen=True)
class ImagePaths:
    """Paths of images, each once, in the order in which they were named, those of a folder sorted.

    `notice` says which files of the folders look like images and are not read; empty where there are none.
    """

    paths: tuple[str, ...]
    notice: str = ""


def find_images(named: Sequence[str | Path]) -> ImagePaths:
    """Find the images that files and folders name; a file counts whatever its suffix.

    Raises InputError for a path that does not exist, and for a folder without images.
    """
    paths: dict[str, None] = {}
    unread: Counter[str] = Counter()
    for one in named:
        path = Path(one)
        if not exists(path):
            raise InputError(f"{str(one)!r:.80}: no such file or folder; name images, or folders of images")
        if not is_dir(path):
            paths[os.fspath(path)] = None
            continue
        skipped = count_unread(path)
        found = sorted(walk_images(os.fspath(path)))
        if not found:
            raise InputError(f"{path}: a folder without images: {describe_unread(skipped) or describe_folder(path)}")
        unread += skipped
        paths.update(dict.fromkeys(found))
    if not paths:
        raise InputError("no images; name images, or folders of images")
    return ImagePaths(tuple(paths), describe_unread(unread))
