"""Files that a command writes where a person says, never over what is there unasked."""

import os
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.files import write_whole


def write_new(file: Path, text: str, *, force: bool) -> None:
    """Write a file, and the folders above it. Raises InputError when it is there already or cannot be written."""
    if file.is_dir() or (os.path.lexists(file) and not file.is_file()):
        raise InputError(f"{file}: not a regular file; name another")
    if file.exists() and not force:
        raise InputError(f"{file}: is there already; name another, or add --force to replace it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}; name another") from None
