"""A search's SQLite file, opened beside t2tbuild and closed again: Python 3.13 warns of a connection that is not."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def open_database_file(path: Path, mode: str = "rw") -> Iterator[sqlite3.Connection]:
    """Open the file, commit at the end of the block, and close it. Mode `ro` only reads."""
    with closing(sqlite3.connect(f"file:{path}?mode={mode}", timeout=20, uri=True)) as database, database:
        yield database
