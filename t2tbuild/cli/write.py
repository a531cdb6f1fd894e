"""Files that a command writes where a person says, never over what is there unasked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.files import atomic_write
from t2tbuild.spec.catalog import MAX_NAME


def target_file(target: Path, name: str, *, force: bool) -> Path:
    """The file that is meant: a folder stands for the file of that name in it.

    Raises InputError for no file name, and for a file that is there already unless it may be replaced.
    """
    try:
        file = target / name if target.is_dir() else target
        if len(file.name.encode()) > MAX_NAME:
            raise OSError("too long")
        if file.is_symlink() and not file.exists():
            raise InputError(f"{file}: a link to {file.readlink()}, which is not there; name another")
        there = file.exists()
        if there and not file.is_file():
            raise InputError(f"{file}: not a regular file; name another")
    except (OSError, ValueError) as error:
        raise InputError(f"{str(target)!r:.60}: not a file name ({error.args[-1]}); name another") from None
    if there and not force:
        raise InputError(f"{file}: is there already; name another, or add --force to replace it")
    return file


def write_new(file: Path, text: str) -> None:
    """Write a file, and the folders above it. Raises InputError when it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text)
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}; name another") from None


PICTURES = (".png", ".svg", ".pdf")


def require_picture(option: str, path: Path | None, suffixes: tuple[str, ...] = PICTURES) -> None:
    """Raises InputError when no picture can be written where the option says."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{option} {path}: cannot be written; name another")


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file that an option names into an InputError that names both."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be written: {error.strerror or error}; name another") from None
