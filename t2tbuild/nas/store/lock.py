"""The lock of a search: one process at a time draws a candidate, creates tables or requeues stale trials.

On a server those that wait stand in its queue. A process waits as long as the others make progress: only where one
process has held the lock for LOCK_SECONDS, which is longer than any draw takes, it goes on without the lock.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy.exc import DBAPIError

from t2tbuild.nas.store.retry import retried

LOCK_SECONDS = 600.0
"""Seconds after which a process that still holds the lock counts as one that hangs."""
LOCK_ID = 20210128
"""The advisory lock of searches on a server."""
TIMED_OUT = "55P03"
"""PostgreSQL's code of a statement that waited for longer than lock_timeout."""


@dataclass(frozen=True)
class Statements:
    """A server's statements that take the lock at once, wait for it in a queue, leave it, and name who holds it.

    `holder` differs between two holders; PostgreSQL's also between two times at which one process holds the lock.

    `limit` sets how long `wait` may take, where `wait` itself does not.
    """

    take: str
    wait: str
    leave: str
    holder: str
    limit: str = ""


SERVERS = {
    "postgresql": Statements(
        take="SELECT pg_try_advisory_lock(:lock)",
        wait="SELECT true FROM (SELECT pg_advisory_lock(:lock)) AS taken",
        leave="SELECT pg_advisory_unlock(:lock)",
        # The transaction of a holder is open as long as it holds the lock. Keys of one number have objsubid 1.
        holder="SELECT pid || ' ' || xact_start FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = :lock AND objsubid = 1 "
        "AND datname = current_database()",
        limit="SELECT set_config('lock_timeout', '{seconds}s', true), set_config('statement_timeout', '0', true)",
    ),
    "mysql": Statements(
        take="SELECT GET_LOCK(:lock, 0)",
        wait="SELECT GET_LOCK(:lock, :seconds)",
        leave="SELECT RELEASE_LOCK(:lock)",
        holder="SELECT IS_USED_LOCK(:lock)",
    ),
}


@contextlib.contextmanager
def search_lock(url: str, engine: sqlalchemy.Engine | None = None, *, patient: bool = True) -> Iterator[None]:
    """Hold the lock of a search. On SQLite it is a lock of a file beside the database.

    A server that cannot be reached is tried again for RETRY_SECONDS, unless `patient` is false.
    """
    address = sqlalchemy.make_url(url)
    if address.get_backend_name() == "sqlite":
        with _file_lock(Path(f"{address.database}.lock")):
            yield
        return
    statements = SERVERS[address.get_backend_name()]
    own = engine is None
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True) if engine is None else engine
    take = retried(_try_server_lock) if patient else _try_server_lock
    held: bool | None = None
    while held is None:
        connection, held = take(engine, statements)
    try:
        try:
            yield
        finally:
            if held:
                try:
                    _ask(connection, statements.leave)
                except DBAPIError:  # the server frees the lock of a lost connection
                    connection.invalidate()
    finally:
        with contextlib.suppress(DBAPIError):
            connection.close()
        if own:
            engine.dispose()


def _try_server_lock(engine: sqlalchemy.Engine, statements: Statements) -> tuple[sqlalchemy.Connection, bool | None]:
    """Wait for the lock for LOCK_SECONDS, and return a connection, and whether it holds the lock.

    None where it does not, but others made progress: then the connection is closed, and the caller tries again. Each
    try may be repeated after an outage.
    """
    connection = engine.connect()
    try:
        if _ask(connection, statements.take):
            return connection, True
        before = _ask(connection, statements.holder)
        if _wait_in_queue(connection, statements):
            return connection, True
        if before is not None and _ask(connection, statements.holder) == before:
            return connection, False
        connection.close()
        return connection, None
    except BaseException:
        with contextlib.suppress(DBAPIError):
            connection.invalidate()  # after Ctrl-C it may hold the lock, and must not go back to the pool
            connection.close()
        raise


def _ask(connection: sqlalchemy.Connection, statement: str) -> Any:
    return connection.execute(sqlalchemy.text(statement), {"lock": LOCK_ID, "seconds": LOCK_SECONDS}).scalar()


def _wait_in_queue(connection: sqlalchemy.Connection, statements: Statements) -> bool:
    """Wait for the lock for LOCK_SECONDS, and return whether it was taken."""
    try:
        if statements.limit:
            connection.execute(sqlalchemy.text(statements.limit.format(seconds=LOCK_SECONDS)))
        return bool(_ask(connection, statements.wait))
    except DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)  # psycopg, psycopg2
        if code != TIMED_OUT:
            raise
        connection.rollback()
        return False


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file. Each holder writes a text of its own into it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if _wait_for_file(descriptor):
            with contextlib.suppress(OSError):  # the disk is full
                os.pwrite(descriptor, f"{os.getpid():10} {time.time_ns()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)  # which leaves the lock


def _wait_for_file(descriptor: int) -> bool:
    """Return whether the lock was taken: not where one holder has it for LOCK_SECONDS."""
    holder, limit, pause = b"", time.monotonic() + LOCK_SECONDS, 0.002
    while not _try_file(descriptor):
        if (now := os.pread(descriptor, 100, 0)) != holder:
            holder, limit = now, time.monotonic() + LOCK_SECONDS
        if time.monotonic() > limit:
            return False
        time.sleep(pause)
        pause = min(0.05, 1.5 * pause)
    return True


def _try_file(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
