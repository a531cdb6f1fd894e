"""The images of an evaluation that a model was trained on."""

import os
from typing import NamedTuple

from t2tbuild.errors import FieldError
from t2tbuild.spec.data import AnyData, UserImages
from t2tbuild.training.data.dataset import MapStyleSplit
from t2tbuild.training.data.folder import ImageFiles
from t2tbuild.training.data.loader import open_split


class Overlap(NamedTuple):
    """Number of images that are evaluated, and of those among them that were trained on."""

    images: int
    trained_on: int


def find_overlap(trained: AnyData, evaluated: AnyData, split: str) -> Overlap:
    """Compare the files of a split with the training images of other data; none where either has no files of a user.

    Where the training images are gone, there is nothing to compare with.
    """
    if not isinstance(trained, UserImages) or not isinstance(evaluated, UserImages):
        return Overlap(0, 0)
    found = _paths(evaluated, split)
    try:
        known = _paths(trained, "train")
    except FieldError:
        return Overlap(len(found), 0)
    return Overlap(len(found), len(found & known))


def _paths(data: UserImages, split: str) -> set[str]:
    opened = open_split(data, split, mode="RGB")
    assert isinstance(opened, MapStyleSplit)
    assert isinstance(opened.source, ImageFiles)
    return {os.path.normpath(opened.source.name(index)) for index in range(opened.size)}
