"""Recover a broken SQLite database of a study: check it, keep a copy, and rebuild it from what can be read.

In this order: an intact database is left alone; where only indices are wrong they are rebuilt; otherwise a new database
is written with every row that can be read, table by table, or by the program sqlite3 where that keeps more rows.
Torch-free, and without Optuna.
"""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.nas.store.broken_tables import copy_tables, count_rows, list_tables, placeholders, quote

MAX_PROBLEMS = 5
"""Lines of SQLite's integrity check that are kept."""
MAX_GROWTH = 100
"""Times the pages of a truncated file that its header may name."""
SECONDS = 600.0
"""The longest time of the program sqlite3."""
HEADER_PAGE_SIZE, HEADER_PAGES = slice(16, 18), slice(28, 32)
"""Bytes of the header with the page size and the number of pages (https://sqlite.org/fileformat2.html)."""

Row = tuple[object, ...]


class Action(StrEnum):
    """What was done to a database."""

    INTACT = "intact"  # nothing was wrong
    REINDEXED = "reindexed"  # only indices were wrong
    COPIED = "copied"  # table by table, row by row
    RECOVERED = "recovered"  # by the program sqlite3


@dataclass(frozen=True)
class Recovery:
    """What was done to a database, and the number of rows kept and lost, by table.

    `lost` is the least number of rows: those with an entry in an index, a later row, or a row that refers to them. Rows
    of a lost parent count as lost, for example the results of a lost trial. `placeholders` is the number of failed
    trials that were added in place of lost ones, so that the numbers of new trials stay unique. `copy` is the copy of
    the broken file, None for an intact one.
    """

    action: Action
    kept: Mapping[str, int]
    lost: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    placeholders: int = 0
    copy: Path | None = None

    def lines(self) -> list[str]:
        """Return what was done in words, one line per fact; none for an intact database."""
        if self.action is Action.INTACT:
            return []
        done = {
            Action.REINDEXED: "its indices were rebuilt",
            Action.COPIED: "it was rebuilt, row by row",
            Action.RECOVERED: "it was rebuilt by sqlite3 .recover",
        }[self.action]
        kept, lost = sum(self.kept.values()), sum(self.lost.values())
        lines = [f"the database was broken ({self.problems[0]}): {done}; {kept} rows kept, at least {lost} lost"]
        lines += [f"{table}: at least {count} rows lost" for table, count in self.lost.items() if count]
        if self.placeholders:
            lines.append(f"{self.placeholders} lost trials are recorded as failed, so that later numbers stay")
        return [*lines, f"the broken file was kept: {self.copy}"]


@dataclass(frozen=True)
class _Built:
    """A new database, what was done for it, and the number of rows it should have at least, by table."""

    path: Path
    action: Action
    expected: Mapping[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> dict[str, int]:
        with closing(sqlite3.connect(self.path)) as database:
            return {table: count_rows(database, table) for table in list_tables(database)}


def recover_database(path: Path) -> Recovery:
    """Check a SQLite database and, where it is broken, replace it with a new one of all rows that can be read.

    No other process may use the database. The broken file is kept beside it, as study.db.broken for study.db, or under
    the next free number. The new one is complete before it takes the place of the broken one.

    Raises InputError where the file is missing, locked, or has nothing to read. It is unchanged then.
    """
    problems = check_integrity(path)
    if not problems:
        return Recovery(Action.INTACT, _Built(path, Action.INTACT).kept)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
        source = Path(name) / "source.db"
        shutil.copyfile(path, source)
        _restore_size(source)
        built = _reindex(source) or _rebuild(source)
        placeholders = _finish(built.path) if built is not None and built.action is not Action.REINDEXED else 0
        if built is None or not _has_content(built.path):
            message = f"{path}: not a single study can be read from this database ({problems[0]})"
            raise InputError(f"{message}; move it away to start a new search")
        kept = built.kept
        lost = {table: max(0, built.expected.get(table, count) - count) for table, count in kept.items()}
        if placeholders:
            kept["trials"] -= placeholders
            lost["trials"] += placeholders
        shutil.copymode(path, built.path)
        copy = _keep_copy(path)
        _replace(built.path, path)
    return Recovery(built.action, kept, lost, tuple(problems), placeholders, copy)


def check_integrity(path: Path) -> list[str]:
    """Return what SQLite's integrity check finds, at most MAX_PROBLEMS lines; none for an intact database.

    Changes that a killed process left in the journal are rolled back first, as SQLite does whenever it opens a file.
    Raises InputError where the file is missing or locked.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such database")
    try:
        with closing(sqlite3.connect(path)) as database:
            found = [str(row[0]) for row in database.execute(f"pragma integrity_check({MAX_PROBLEMS})")]
            if found == ["ok"]:
                return [] if list_tables(database) else ["it has no tables"]
            lines = [line for text in found for line in text.splitlines() if not line.startswith("***")]
            return lines[:MAX_PROBLEMS]
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "unable to open" in str(error):
            raise InputError(f"{path}: {error}; end the processes that use it, and check its permissions") from None
        return [str(error)]
    except sqlite3.DatabaseError as error:
        return [str(error)]


def _restore_size(path: Path) -> None:
    """Fill a truncated file with empty pages up to the size in its header, without which SQLite reads nothing of it.

    A page that is there in part is emptied too. A header of over MAX_GROWTH times the pages is not trusted.
    """
    with path.open("r+b") as stream:
        header = stream.read(100)
        size = int.from_bytes(header[HEADER_PAGE_SIZE], "big")
        size = 65536 if size == 1 else size
        pages, wanted = path.stat().st_size // max(size, 1), int.from_bytes(header[HEADER_PAGES], "big")
        if size and pages < wanted <= MAX_GROWTH * pages:
            stream.truncate(pages * size)
            stream.truncate(wanted * size)


def _reindex(source: Path) -> _Built | None:
    """Return a copy with new indices, None where that does not make the database intact."""
    path = source.with_name("reindexed.db")
    shutil.copyfile(source, path)
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(path)) as database:
        database.execute("reindex")
        database.commit()
    return None if check_integrity(path) else _Built(path, Action.REINDEXED)


def _rebuild(source: Path) -> _Built | None:
    """Return a new database with the rows that can be read, None where there is none.

    The program sqlite3 searches the whole file for rows, so it may find more than the tables still lead to. It is asked
    only where rows are missing, and its result is checked: some builds of it have a .recover that does nothing.
    """
    expected = copy_tables(source, source.with_name("copied.db"))
    copied = None if expected is None else _Built(source.with_name("copied.db"), Action.COPIED, expected)
    if copied is not None and all(copied.kept[table] >= count for table, count in copied.expected.items()):
        return copied
    recovered = _recover_with_program(source, copied.expected if copied is not None else {})
    found = [built for built in (copied, recovered) if built is not None and not check_integrity(built.path)]
    return max(found, key=lambda built: sum(built.kept.values()), default=None)


def _recover_with_program(source: Path, expected: Mapping[str, int]) -> _Built | None:
    """Return what the .recover of the program sqlite3 finds, None where there is no such program or it fails."""
    program = shutil.which("sqlite3")
    if program is None:
        return None
    script, path = source.with_name("recovered.sql"), source.with_name("recovered.db")
    read, write = [program, "-batch", str(source), ".recover --ignore-freelist"], [program, "-batch", str(path)]
    try:
        with script.open("wb") as sql:
            subprocess.run(read, stdout=sql, stderr=subprocess.DEVNULL, timeout=SECONDS, check=False)  # noqa: S603
        with script.open("rb") as sql:
            subprocess.run(write, stdin=sql, capture_output=True, timeout=SECONDS, check=False)  # noqa: S603
        with closing(sqlite3.connect(path)) as database:
            for table in list_tables(database):
                if table.startswith("lost_and_found"):  # rows of which no one knows the table
                    database.execute(f"drop table {quote(table)}")
            database.commit()
    except (OSError, subprocess.SubprocessError, sqlite3.DatabaseError):
        return None
    return _Built(path, Action.RECOVERED, expected)


def _finish(path: Path) -> int:
    """Remove rows whose parent is lost, and return the number of failed trials that take the place of lost ones."""
    with closing(sqlite3.connect(path)) as database:
        while orphans := database.execute("pragma foreign_key_check").fetchall():
            for table, number, *_ in orphans:
                database.execute(f"delete from {quote(table)} where rowid = ?", (number,))  # noqa: S608
        added = list(placeholders(database)) if "trials" in list_tables(database) else []
        for place in added:
            database.execute("insert into trials (trial_id, study_id, number, state) values (?, ?, ?, 'FAIL')", place)
        database.commit()
    return len(added)


def _has_content(path: Path) -> bool:
    """Whether a database has a row, and a study where it is Optuna's."""
    kept = _Built(path, Action.COPIED).kept
    return bool(kept.get("studies", sum(kept.values())))


def _keep_copy(path: Path) -> Path:
    """Copy a broken file beside itself, and return the copy; an older copy is never overwritten."""
    number = 1
    while True:
        copy = path.with_name(f"{path.name}.broken" + (f".{number}" if number > 1 else ""))
        try:
            with path.open("rb") as source, copy.open("xb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
        except FileExistsError:
            number += 1
            continue
        return copy


def _replace(new: Path, path: Path) -> None:
    """Put a new database in the place of a broken one, whose journals would be applied to it otherwise."""
    with new.open("rb") as stream:
        os.fsync(stream.fileno())
    for suffix in ("-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    new.replace(path)
