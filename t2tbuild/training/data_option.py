"""The option --data as overrides of a spec. Torch-free."""

import json
from pathlib import Path
from typing import Any

from t2tbuild.errors import InputError
from t2tbuild.spec.data import ALL, AnyData, CsvData, FolderData, Streamed, data_root
from t2tbuild.training.csv_table import split_values
from t2tbuild.training.folder_layout import FLAT, SPLIT_NAMES, FolderSplits, find_splits

BUNDLED = ("digits", "cifar10", "cifar100")
"""Values of --data that are kinds of data, not folders."""

CSV_SUFFIXES = (".csv", ".tsv")

TRANSFORM_FIELDS = ("image_size", "augment", "interpolation", "crop_pct", "mean", "std", "workers", "skip_corrupt")
"""Fields of data that say how images are read: they stay when --data names others."""


def data_overrides(
    text: str, current: AnyData | None, field: str = "train.data", *, evaluation: bool = False
) -> list[str]:
    """Return the overrides that set `field` to the data of --data.

    `text` is a kind of bundled data, a folder of images (ROOT/train/CLASS/*.jpg with the usual names of splits, or
    ROOT/CLASS/*.jpg) or a CSV file. The transforms that `current`, the data of the spec, has for image files are kept.
    Where `current` has the same folder or file, its splits are kept as well.

    For an `evaluation`, images without splits are all evaluated; otherwise some are held out for validation.

    Raises InputError for a file that is not a CSV file.
    """
    if text in BUNDLED:
        return [f"{field}={{kind: {text}}}"]
    path = data_root(text).absolute()
    if path.suffix.lower() in CSV_SUFFIXES:
        return _csv_overrides(path, current, field, evaluation=evaluation)
    if path.is_file():
        raise InputError(f"--data {text}: is a file; expected a folder of images or a CSV file of images and labels")
    if isinstance(current, FolderData) and _same(current.root, path):
        return [f"{field}.root={json.dumps(str(path))}"]
    found = find_splits(path)
    splits = _splits_to_evaluate(found) if evaluation else _splits_to_train(found)
    return _overrides(field, current, {"kind": "folder", "root": str(path), **splits})


def _csv_overrides(path: Path, current: AnyData | None, field: str, *, evaluation: bool) -> list[str]:
    if isinstance(current, CsvData) and _same(current.file, path):
        return [f"{field}.file={json.dumps(str(path))}"]
    values: dict[str, Any] = {"kind": "csv", "file": str(path)}
    if evaluation:
        known = split_values(path)
        values |= {} if known & {*SPLIT_NAMES["train"]} else {"train": ALL}
        values |= {} if known else {"validation": ALL}
    return _overrides(field, current, values)


def _splits_to_train(found: FolderSplits) -> dict[str, str | None]:
    """Return the splits that were found; what is missing is left to the check of the files, which names the layout.

    A validation folder alone has the training images, of which some are held out.
    """
    if found.train is None and found.validation is not None:
        return {"train": found.validation, "validation": None, "test": found.test}
    return {"train": found.train or "train", "validation": found.validation, "test": found.test}


def _splits_to_evaluate(found: FolderSplits) -> dict[str, str | None]:
    """Return the splits for an evaluation, which needs no training images."""
    only = found.validation or found.test or FLAT
    train = found.train or only
    validation = found.validation or (None if found.train not in (None, FLAT) else only)
    return {"train": train, "validation": validation, "test": found.test}


def _overrides(field: str, current: AnyData | None, values: dict[str, Any]) -> list[str]:
    """Return one override with the new data, and the transforms of the current data."""
    if isinstance(current, Streamed):
        written = current.model_fields_set & {*TRANSFORM_FIELDS}
        values |= current.model_dump(mode="json", include=written)
    return [f"{field}={json.dumps(values)}"]


def _same(given: str, path: Path) -> bool:
    return data_root(given).absolute() == path
