"""The lock of a search: one process at a time draws a candidate, creates tables or requeues stale trials.

On a server those that wait stand in its queue. A process waits as long as the others make progress: only where the same
one has had the lock for LOCK_SECONDS, it hangs, and the process goes on without the lock.
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

LOCK_SECONDS = 60.0
"""A process that has had the lock for so long hangs."""
LOCK_ID = 20210128
"""The advisory lock of searches on a server."""
TIMED_OUT = "55P03"
"""PostgreSQL's code of a statement that waited for longer than lock_timeout."""


@dataclass(frozen=True)
class Statements:
    """A server's statements that take the lock at once, wait for it in a queue, leave it, and name its holder.

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
        holder="SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
        "WHERE locktype = 'advisory' AND granted AND objid = :lock AND datname = current_database()",
        limit="SET LOCAL lock_timeout = '{seconds}s'",
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
    connection, held = (retried(_take_server_lock) if patient else _take_server_lock)(engine, statements)
    try:
        try:
            yield
        finally:
            if held:
                with contextlib.suppress(DBAPIError):  # the server frees the lock of a lost connection
                    _ask(connection, statements.leave)
    finally:
        with contextlib.suppress(DBAPIError):
            connection.close()
        if own:
            engine.dispose()


def _take_server_lock(engine: sqlalchemy.Engine, statements: Statements) -> tuple[sqlalchemy.Connection, bool]:
    """Return a connection, and whether it has the lock."""
    connection = engine.connect()
    try:
        if _ask(connection, statements.take):
            return connection, True
        holder = _ask(connection, statements.holder)
        while not _wait_in_queue(connection, statements):
            before, holder = holder, _ask(connection, statements.holder)
            if holder is not None and holder == before:  # it would be behind this process, had it left the lock
                return connection, False
        return connection, True
    except BaseException:
        with contextlib.suppress(DBAPIError):
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
