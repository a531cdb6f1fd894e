"""Read the rows of a broken SQLite table as far as they can be read, and copy them. Torch-free, and without Optuna."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

MAX_FAILED_READS = 200_000
"""Reads of a table that may fail before the rest of it is given up."""
ROWS_BEYOND = 4096
"""Rows that are tried beyond the last known one, where the end of a table cannot be read."""

Row = tuple[object, ...]


def copy_tables(source: Path, path: Path) -> dict[str, int] | None:
    """Write a new database with every row that can be read from a broken one.

    Returns the number of rows that each table should have at least, None where the schema cannot be read.
    """
    expected: dict[str, int] = {}
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(path)) as new,
        ):
            old.execute("pragma writable_schema = on")  # reads on beyond errors in the schema
            schema = old.execute("select type, name, sql from sqlite_master where name not like 'sqlite_%'").fetchall()
            for kind, _name, sql in schema:
                if kind == "table":
                    new.execute(sql)
            for table in list_tables(new):
                rows, expected[table] = read_rows(old, table)
                insert(new, table, rows)
            for kind, _name, sql in schema:
                if kind == "index":
                    with suppress(sqlite3.IntegrityError):  # a unique index of which a key is there twice
                        new.execute(sql)
            for table, parent, column in references(new):
                largest = new.execute(f"select max({quote(column)}) from {quote(table)}").fetchone()[0]  # noqa: S608
                if isinstance(largest, int) and primary_key(new, parent) is not None:
                    expected[parent] = max(expected[parent], largest)
            new.commit()
    except sqlite3.DatabaseError:
        return None
    return expected


def read_rows(database: sqlite3.Connection, table: str) -> tuple[dict[int, Row], int]:
    """Return the rows of a table that can be read, by their ids, and the number of rows it has at least."""
    name, rows = quote(table), dict[int, Row]()
    whole = _scan(database, f"select rowid, * from {name} not indexed order by rowid", rows)  # noqa: S608
    entries: list[set[int]] = []
    for index in _indices(database, table):
        found: dict[int, Row] = {}
        _scan(database, f"select rowid from {name} indexed by {quote(index)}", found)  # noqa: S608
        entries.append(set(found))
    if not whole:
        last = max(rows, default=0)
        end = max([_last_id(database, table), last + ROWS_BEYOND, *(max(one, default=0) for one in entries)])
        _read_between(database, table, last + 1, end, rows)
        for index in _indices(database, table):  # an index of all columns has whole rows
            found = {}
            _scan(database, f"select rowid, * from {name} indexed by {quote(index)}", found)  # noqa: S608
            rows |= {number: row for number, row in found.items() if number not in rows}
    numbered = max(rows, default=0) if primary_key(database, table) is not None else 0
    return rows, max([len(rows), numbered, *map(len, entries)])


def _scan(database: sqlite3.Connection, query: str, rows: dict[int, Row], limits: Sequence[int] = ()) -> bool:
    """Read rows until the end or the first error into `rows`; return whether the end was reached."""
    try:
        for number, *row in database.execute(query, limits):
            rows[number] = tuple(row)
    except sqlite3.DatabaseError:
        return False
    return True


def _read_between(database: sqlite3.Connection, table: str, low: int, high: int, rows: dict[int, Row]) -> None:
    """Read the rows with ids from `low` to `high`: halve each range that cannot be read, down to single rows.

    A single row is read by its id, not as a range: SQLite would look for the end of the range on the next page, and an
    error there would cost this row too.
    """
    columns = f"rowid, * from {quote(table)} not indexed"
    one = f"select {columns} where rowid = ?"
    several = f"select {columns} where rowid between ? and ? order by rowid"
    left, failed = [(low, high)], 0
    while left and failed < MAX_FAILED_READS:
        low, high = left.pop()
        if low == high:
            failed += not _scan(database, one, rows, (low,))
            continue
        found: dict[int, Row] = {}
        whole = _scan(database, several, found, (low, high))
        rows |= found
        low = max(found, default=low - 1) + 1
        if not whole and low <= high:
            failed += 1
            middle = (low + high) // 2
            left += [(middle + 1, high), (low, middle)] if low < high else [(low, high)]


def _last_id(database: sqlite3.Connection, table: str) -> int:
    """Return the largest id of a table, 0 where its end cannot be read."""
    try:
        return int(database.execute(f"select max(rowid) from {quote(table)} not indexed").fetchone()[0] or 0)  # noqa: S608
    except sqlite3.DatabaseError:
        return 0


def insert(database: sqlite3.Connection, table: str, rows: Mapping[int, Row]) -> None:
    """Insert rows; one that violates a constraint is left out."""
    if rows:
        marks = ", ".join("?" * len(next(iter(rows.values()))))
        query = f"insert or ignore into {quote(table)} values ({marks})"  # noqa: S608
        database.executemany(query, [row for _, row in sorted(rows.items())])


def placeholders(database: sqlite3.Connection) -> Iterator[tuple[int, int, int]]:
    """Yield id, study and number of each lost trial below the last one of its study.

    Optuna numbers a new trial by the count of earlier trials of its study, so a gap would repeat a number.
    """
    trials = database.execute("select study_id, number, trial_id from trials order by study_id, number").fetchall()
    taken = {trial for _, _, trial in trials}
    expected, free, current = 0, 1, None
    for study, number, trial in trials:
        if study != current:
            expected, free, current = 0, 1, study
        for missing in range(expected, number):
            unused = next((one for one in range(free, trial) if one not in taken), None)
            if unused is None:
                break
            taken.add(unused)
            free = unused + 1
            yield unused, study, missing
        expected, free = number + 1, trial + 1


def list_tables(database: sqlite3.Connection) -> list[str]:
    """Return the names of the tables."""
    query = "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
    return [str(name) for (name,) in database.execute(query)]


def _indices(database: sqlite3.Connection, table: str) -> list[str]:
    try:
        return [str(row[1]) for row in database.execute(f"pragma index_list({quote(table)})")]
    except sqlite3.DatabaseError:
        return []


def references(database: sqlite3.Connection) -> Iterator[tuple[str, str, str]]:
    """Yield table, parent and column of each foreign key."""
    for table in list_tables(database):
        for row in database.execute(f"pragma foreign_key_list({quote(table)})").fetchall():
            yield table, row[2], row[3]


def primary_key(database: sqlite3.Connection, table: str) -> str | None:
    """Return the column of a table that is its row id, an INTEGER PRIMARY KEY; None where there is none."""
    columns = database.execute(f"pragma table_info({quote(table)})").fetchall()
    keys = [(name, kind) for _, name, kind, _, _, primary in columns if primary]
    return keys[0][0] if len(keys) == 1 and keys[0][1].upper() == "INTEGER" else None


def count_rows(database: sqlite3.Connection, table: str) -> int:
    """Return the number of rows of a table."""
    return int(database.execute(f"select count(*) from {quote(table)}").fetchone()[0])  # noqa: S608


def quote(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
