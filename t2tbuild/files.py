"""Files that are written whole or not at all, whether something is there, and what is better not written."""

import os
import re
import secrets
import shutil
from pathlib import Path


def exists(path: Path) -> bool:
    """Whether something is there; nothing is at a name that no file system takes."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a NUL byte, a folder that may not be searched
        return False


_SECRET = re.compile(
    r"(?<=://)\S*(?=@)|(?<=[a-z]:)[^\s/]\S*(?=@)|(?<=[Bb]earer )\S+|(?<=token=)[^\s&,}]+|(?<=key=)[^\s&,}]+"
    r"|(?<=password=)[^\s&,}]+|(?<=passwd=)[^\s&,}]+"
)


def redact(text: str) -> str:
    """The text with passwords of URLs, tokens and keys left out, for files and services that others read.

    >>> without_secrets("postgresql://me:hush@host/db"), without_secrets("--header=Authorization: Bearer abc")
    ('postgresql://***@host/db', '--header=Authorization: Bearer ***')
    """
    return _SECRET.sub("***", text)


def atomic_write(path: Path, text: str) -> None:
    """Write a file so that a kill leaves either the old one or the new one; a link stays one. Raises OSError."""
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
