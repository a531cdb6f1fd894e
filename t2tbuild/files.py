"""Atomic writes, robust tests of existence, short paths, redaction of secrets, and numbers that JSON can hold."""

import math
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Unlike pathlib's, the tests of os.path are False for a name that is too long or in a folder without permission.


def exists(path: Path) -> bool:
    """Return whether a path exists; False for a name that no file system accepts."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Return whether a path is a file; False for a name that no file system accepts."""
    return os.path.isfile(path)  # noqa: PTH113


def is_dir(path: Path) -> bool:
    """Return whether a path is a folder; False for a name that no file system accepts."""
    return os.path.isdir(path)  # noqa: PTH112


def short_path(path: str) -> str:
    """Return a path below the current folder relative to it, and any other text unchanged."""
    return path.removeprefix(f"{Path.cwd()}{os.sep}")


_SECRET = re.compile(
    r"(?<=://)\S*(?=@)|(?<=[a-z]:)[^\s/]\S*(?=@)|(?<=[Bb]earer )\S+|(?<=token=)[^\s&,}]+|(?<=key=)[^\s&,}]+"
    r"|(?<=password=)[^\s&,}]+|(?<=passwd=)[^\s&,}]+"
)


def redact(text: str) -> str:
    """Replace passwords in URLs, tokens and keys, for files and services that others read.

    >>> redact("postgresql://me:hush@host/db"), redact("--header=Authorization: Bearer abc")
    ('postgresql://***@host/db', '--header=Authorization: Bearer ***')
    """
    return _SECRET.sub("***", text)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8, so that a kill leaves the old or the new content. Raises OSError.

    A symbolic link stays one.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}-{secrets.token_hex(3)}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def nan_to_none(value: Any) -> Any:
    """Return plain data with None in place of NaN and infinities, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: nan_to_none(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_none(one) for one in value]
    return value
