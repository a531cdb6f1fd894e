"""Atomic writes, robust tests and reads of files, short paths, printable text, redaction, and numbers for JSON."""

import contextlib
import csv
import errno
import io
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
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


def require_regular(path: Path) -> None:
    """Raise OSError unless a path is a regular file: a FIFO or a device may block, or have no end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


MAX_JSON = 100_000_000
"""Bytes of a JSON file that is read; a larger one may be made to take all memory."""


def read_json(path: Path) -> Any:
    """Return the data of a JSON file. Raises OSError, or ValueError for a damaged or huge one."""
    require_regular(path)
    if (size := path.stat().st_size) > MAX_JSON:
        raise ValueError(f"{size:,} bytes, more than {MAX_JSON:,}")
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """Return the data of a JSON text. Raises ValueError for a damaged one, also where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def escape_controls(text: str) -> str:
    r"""Return a text without control characters, which could move the cursor or forge lines, but with its line breaks.

    >>> escape_controls("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t\xa0" else ascii(one)[1:-1] for one in text)


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a cell that a spreadsheet takes for a formula."""


def safe_cell(text: str) -> str:
    """Return a text that no spreadsheet runs as a formula: one that starts like a formula gets an apostrophe."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], end: str = "\r\n") -> str:
    """Return a CSV table with a header. No text of it, also of the header, is a formula."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator=end)
    writer.writerow(map(safe_cell, columns))
    for row in rows:
        cells = (row.get(column) for column in columns)
        writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return table.getvalue()


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
    """Write bytes, or text as UTF-8, so that a kill leaves the old or the new content.

    A symbolic link stays one. Raises OSError with the name of the file.
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
    except BaseException as error:
        with contextlib.suppress(OSError):  # a read-only disk refuses it even where there is no such file
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # that of a full disk has no name, others the temporary one
            error.filename, error.filename2 = str(path), None
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
