"""Files that are written whole or not at all, and whether something is there."""

import os
import shutil
from pathlib import Path


def exists(path: Path) -> bool:
    """Whether something is there; nothing is at a name that no file system takes."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a NUL byte, a folder that may not be searched
        return False


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a kill leaves either the old one or the new one; a link stays one. Raises OSError."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}.tmp")
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
