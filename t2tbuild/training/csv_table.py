"""CSV files of images and labels, read and checked. Torch-free."""

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from t2tbuild.errors import FieldError
from t2tbuild.spec.data import ALL, CsvData, data_root
from t2tbuild.training.folder_layout import describe_other_missing

FILE_COLUMNS = ("file", "path", "image", "filename")
LABEL_COLUMNS = ("label", "class")
SPLIT_COLUMN = "split"

_FILE = ("train", "data", "file")
_EXAMPLE = "write a first line such as: file,label,split, and below it one line for each image: cat/1.jpg,cat,train"


@dataclass(frozen=True)
class CsvTable:
    """The lines of a CSV file: paths relative to `root`, labels and splits (in lower case) as texts, line numbers.

    `splits` is empty if the file has no column split.
    """

    file: Path
    root: Path
    paths: list[str]
    labels: list[str]
    splits: list[str]
    lines: list[int]

    @property
    def classes(self) -> list[str]:
        """All labels, sorted."""
        return sort_labels(self.labels)

    def rows(self, split: str, field: str = "train") -> list[int]:
        """Return the numbers of the rows of a split, from 0, that `field` names.

        Raises FieldError for one that the file does not have.
        """
        if split == ALL:
            return list(range(len(self.paths)))
        known = listed_splits(self)
        if split.lower() not in known:
            message = f"no line of {self.file} has {split} in the column split"
            found = f"it has {', '.join(sorted(known)[:5])}" if known else "the file has no such column"
            raise FieldError(("train", "data", field), "data", message, found)
        return [row for row, name in enumerate(self.splits) if name == split.lower()]


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Return the different labels, sorted: as numbers where all are whole numbers, so that 0, 1, 2 are the classes'."""
    names = set(labels)
    return sorted(names, key=int if all(name.isdecimal() for name in names) else str)


def listed_splits(table: CsvTable) -> set[str]:
    """Return the values of the column split, in lower case; none if there is no such column."""
    return set(table.splits) - {""}


def read_table(data: CsvData) -> CsvTable:
    """Read a CSV file. Raises FieldError for wrong columns, an empty cell, or an image that does not exist."""
    file = data_root(data.file).absolute()
    root = file.parent if data.root is None else data_root(data.root).absolute()
    try:
        changed = file.stat()
        return _read(file, root, changed.st_mtime_ns, changed.st_size)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not a CSV file in UTF-8: {error}"
        raise FieldError(_FILE, "data", f"{file} cannot be read: {reason}", "write the path of a CSV file") from None


@lru_cache(maxsize=4)
def _read(file: Path, root: Path, _mtime: int, _size: int) -> CsvTable:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader, named = _read_header(stream)
        path, label = (_column(file, named, usual) for usual in (FILE_COLUMNS, LABEL_COLUMNS))
        split = named.get(SPLIT_COLUMN)
        table = CsvTable(file, root, [], [], [], [])
        for row in reader:
            for column, values in ((path, table.paths), (label, table.labels)):
                text = (row[column] or "").strip()
                if not text:
                    raise FieldError(_FILE, "data", f"{file}, line {reader.line_num}: no {column}", "fill in the line")
                values.append(text)
            if split is not None:
                table.splits.append((row[split] or "").strip().lower())
            table.lines.append(reader.line_num)
    if not table.paths:
        raise FieldError(_FILE, "data", f"{file} has no lines below its header", _EXAMPLE)
    _check_files(table)
    return table


def split_values(file: Path) -> set[str]:
    """Return the values of the column split of a CSV file, in lower case; none if it cannot be read."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader, named = _read_header(stream)
            column = named.get(SPLIT_COLUMN)
            return set() if column is None else {(row[column] or "").strip().lower() for row in reader} - {""}
    except (OSError, UnicodeDecodeError, csv.Error):
        return set()


def _read_header(stream: TextIO) -> tuple["csv.DictReader[str]", dict[str, str]]:
    """Return a reader of the lines, and the names of the columns by themselves in lower case."""
    header = stream.readline()
    stream.seek(0)
    reader = csv.DictReader(stream, delimiter=max(",;\t", key=header.count))
    named: dict[str, str] = {}
    for name in reader.fieldnames or ():
        named.setdefault((name or "").strip().lower(), name)
    return reader, named


def _column(file: Path, named: dict[str, str], usual: Iterable[str]) -> str:
    for name in usual:
        if name in named:
            return named[name]
    message = f"{file} has the columns {', '.join(filter(None, named))}, and none of them is {' or '.join(usual)}"
    if not any(named):
        message = f"{file} is empty: its first line must name the columns"
    raise FieldError(_FILE, "data", message, _EXAMPLE)


def _check_files(table: CsvTable) -> None:
    """Check that all images exist. Raises FieldError with the first line that names a missing one."""
    missing = [row for row, path in enumerate(table.paths) if not os.path.isfile(table.root / path)]  # noqa: PTH113
    if missing:
        more = describe_other_missing(len(missing) - 1)
        message = f"{table.file}, line {table.lines[missing[0]]}: no file {table.root / table.paths[missing[0]]}{more}"
        raise FieldError(_FILE, "data", message, "paths are relative to root, by default the folder of the CSV file")
