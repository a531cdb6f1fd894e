"""Write files at a path that the user gives; existing files are replaced only with --force."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.files import atomic_write
from t2tbuild.spec.catalog import MAX_NAME


def resolve_target(target: Path, name: str, *, force: bool) -> Path:
    """Return the file to write: `target`, or `target / name` if it is a folder.

    Raises InputError if it is not a valid file name, or if the file exists and `force` is false.
    """
    try:
        file = target / name if target.is_dir() else target
        if len(file.name.encode()) > MAX_NAME:
            raise OSError("too long")
        if file.is_symlink() and not file.exists():
            raise InputError(f"{file}: a link to {file.readlink()}, which does not exist; choose another name")
        exists = file.exists()
        if exists and not file.is_file():
            raise InputError(f"{file}: not a regular file; choose another name")
    except (OSError, ValueError) as error:
        raise InputError(f"{str(target)!r:.60}: not a file name ({error.args[-1]}); choose another name") from None
    if exists and not force:
        raise InputError(f"{file}: exists already; choose another name, or add --force to replace it")
    return file


def write_file(file: Path, text: str) -> None:
    """Write a file and create its parent folders. Raises InputError if that fails."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text)
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}; choose another name") from None


PICTURES = (".png", ".svg", ".pdf")


def check_plot_path(option: str, path: Path | None, suffixes: tuple[str, ...] = PICTURES) -> None:
    """Raise InputError if the option names a file to which no plot can be written."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: the folder {path.parent} does not exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{option} {path}: cannot be written; choose another name")


@contextmanager
def report_write_errors(option: str, path: Path) -> Iterator[None]:
    """Turn an OSError into an InputError that names the option and its path."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{option} {path}: cannot be written: {error.strerror or error}; choose another name"
        ) from None
