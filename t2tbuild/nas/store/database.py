"""The database of a search: Optuna's RDBStorage on SQLite or a shared server, with retries through an outage."""

import contextlib
import fcntl
import functools
import json
import math
import re
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from t2tbuild.errors import InputError, StorageError, first_line, is_machine_fault
from t2tbuild.files import redact
from t2tbuild.spec.search import Search

P = ParamSpec("P")
T = TypeVar("T")

RETRY_SECONDS = 120.0
"""A worker gives up when the database was unreachable for this many seconds."""
GIVEN_UP = "the database was unreachable for too long"
"""The note of an error after which nothing is called again."""
LOCK_SECONDS = 60.0
"""After this long without the lock, a process goes on without it: its holder hangs."""
LOCK_ID = 20210128
"""The advisory lock of searches on a server."""
DRIVERS = ("psycopg", "psycopg2", "pymysql", "sqlite3")
CONNECTION_ERRORS = ("OperationalError", "InterfaceError", "InternalError")
SQLITE_IS_BUSY = ("locked", "busy", "unable to open", "disk i/o")
"""Parts of the messages of SQLite after which a retry may succeed."""


def is_unreachable(error: BaseException) -> bool:
    """Whether the database cannot be reached or is locked, as opposed to an invalid statement or a broken file."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DBAPIError):
            cause = cause.orig if isinstance(cause.orig, BaseException) else None
        elif type(cause).__module__.partition(".")[0] in DRIVERS:
            if isinstance(cause, sqlite3.Error):
                return any(part in str(cause).lower() for part in SQLITE_IS_BUSY)
            return any(kind.__name__ in CONNECTION_ERRORS for kind in type(cause).__mro__)
        else:
            cause = cause.__cause__ or cause.__context__
    return isinstance(error, sqlalchemy.exc.TimeoutError)


def retried(function: Callable[P, T]) -> Callable[P, T]:
    """Call a function again, with growing pauses, while the database is unreachable, for RETRY_SECONDS.

    They count from its first failure: a draw that scored candidates for minutes before its commit failed is repeated
    too. Of nested calls the innermost decides.
    """

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        limit, pause = math.inf, 0.05
        while True:
            try:
                return function(*arguments, **options)
            except Exception as error:
                if not is_unreachable(error) or GIVEN_UP in getattr(error, "__notes__", ()):
                    raise
                now = time.monotonic()
                limit = min(limit, now + RETRY_SECONDS)
                if now >= limit:
                    error.add_note(GIVEN_UP)
                    raise
            time.sleep(pause)
            pause = min(2.0, 2 * pause)

    return call


@contextlib.contextmanager
def damaged_values() -> Iterator[None]:
    """Turn the error of a value in Optuna's rows that is no longer JSON into an InputError: SQLite checks no bits."""
    try:
        yield
    except json.JSONDecodeError as error:
        message = f"a value in the storage is damaged ({error})"
        raise InputError(f"{message}; restore the storage from a copy, or choose another search.name") from None


def connect(url: str, search: Search) -> RDBStorage:
    """Connect to a database and create missing tables."""
    is_sqlite = url.startswith("sqlite")
    arguments = {"timeout": 60} if is_sqlite else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RDBStorage(
            url,
            engine_kwargs={"pool_pre_ping": not is_sqlite, "connect_args": arguments},
            heartbeat_interval=max(1, math.ceil(search.heartbeat)),
        )


def open_database(url: str, search: Search, *, patient: bool = False) -> RDBStorage:
    """Open the database at a URL and create missing tables. Raises InputError when it cannot be reached or opened.

    With `patient`, a database that cannot be reached is tried again for RETRY_SECONDS.
    """
    shown_url = redact(url)
    try:
        return retried(_connect_alone)(url, search) if patient else _connect_alone(url, search)
    except ModuleNotFoundError as error:
        backend = sqlalchemy.make_url(url).get_backend_name()
        raise InputError(f"{shown_url}: {error.name} is not installed; pip install 't2tbuild[{backend}]'") from None
    except (SQLAlchemyError, OSError, RuntimeError, ValueError) as error:
        lines = redact(str(getattr(error, "orig", error))).strip().splitlines()
        reason = re.sub(r"[^\s'\"]*@", "", lines[0]) if lines else type(error).__name__  # a password may contain an @
        if isinstance(error, FileNotFoundError):
            reason = "its folder does not exist"
        elif "not a database" in reason or "malformed" in reason:
            reason += "; t2tbuild search repair RUN rebuilds it from what can be read"
        raise InputError(f"the storage {shown_url} cannot be opened: {reason}") from None


def _connect_alone(url: str, search: Search) -> RDBStorage:
    with search_lock(url, patient=False):
        return connect(url, search)


def close(storage: RDBStorage) -> None:
    """Close every connection."""
    storage.remove_session()
    storage.engine.dispose()


@contextlib.contextmanager
def storage_errors(run: Path) -> Iterator[None]:
    """Turn an error of a database that stays unreachable or refuses a write, or of a disk, into a StorageError.

    Stored results are kept. An error of a stream, such as a closed stdout, is raised as it is.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        reason = redact(first_line(getattr(cause, "orig", None) or error))
        problem = "the storage is unreachable" if is_unreachable(error) else "the storage cannot be used"
        raise StorageError(f"{problem}: {reason}; continue with: t2tbuild search resume {run}") from error
    except OSError as error:
        if error.filename is None and not is_machine_fault(error):
            raise
        place = f"{error.filename}: " if error.filename is not None else ""
        message = f"{place}{error.strerror}; continue with: t2tbuild search resume {run}"
        raise StorageError(message) from error


@contextlib.contextmanager
def search_lock(url: str, engine: sqlalchemy.Engine | None = None, *, patient: bool = True) -> Iterator[None]:
    """Hold the lock under which tables and studies are created, candidates are drawn and stale trials are requeued.

    A process that waits longer than LOCK_SECONDS goes on without the lock. A server that cannot be reached is tried
    again for RETRY_SECONDS, unless `patient` is false.
    """
    address = sqlalchemy.make_url(url)
    if address.get_backend_name() == "sqlite":
        with Path(f"{address.database}.lock").open("w") as lock:
            _wait_for_lock(lambda: _try_file_lock(lock.fileno()))
            yield
        return
    take, leave = {
        "postgresql": ("SELECT pg_try_advisory_lock(:lock)", "SELECT pg_advisory_unlock(:lock)"),
        "mysql": ("SELECT GET_LOCK(:lock, 0)", "SELECT RELEASE_LOCK(:lock)"),
    }[address.get_backend_name()]
    own = engine is None
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True) if engine is None else engine
    connection, held = (retried(_take_server_lock) if patient else _take_server_lock)(engine, take)
    try:
        try:
            yield
        finally:
            if held:
                with contextlib.suppress(DBAPIError):  # the server frees the lock of a lost connection
                    connection.execute(sqlalchemy.text(leave), {"lock": LOCK_ID})
    finally:
        with contextlib.suppress(DBAPIError):
            connection.close()
        if own:
            engine.dispose()


def _take_server_lock(engine: sqlalchemy.Engine, take: str) -> tuple[sqlalchemy.Connection, bool]:
    """Return a connection, and whether it has the lock."""
    connection = engine.connect()
    try:
        statement = sqlalchemy.text(take)
        return connection, _wait_for_lock(lambda: bool(connection.execute(statement, {"lock": LOCK_ID}).scalar()))
    except BaseException:
        with contextlib.suppress(DBAPIError):
            connection.close()
        raise


def _try_file_lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _wait_for_lock(try_lock: Callable[[], bool]) -> bool:
    limit, pause = time.monotonic() + LOCK_SECONDS, 0.002
    while not try_lock():
        if time.monotonic() > limit:
            return False
        time.sleep(pause)
        pause = min(0.05, 1.5 * pause)
    return True
