"""Atomic writes, a robust test of existence, and redaction of secrets."""

import os
import re
import secrets
import shutil
from pathlib import Path


def exists(path: Path) -> bool:
    """Return whether a path exists; False for a name that no file system accepts."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a NUL byte, a folder without permission
        return False


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


def atomic_write(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old or the new content; a symbolic link stays one. Raises OSError."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}-{secrets.token_hex(3)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
