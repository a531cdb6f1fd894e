"""The database of a search: Optuna's RDBStorage on SQLite or a shared server, and its errors."""

import contextlib
import json
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from t2tbuild.errors import InputError, StorageError, first_line, is_machine_fault
from t2tbuild.files import redact
from t2tbuild.nas.store.lock import search_lock
from t2tbuild.nas.store.retry import is_unreachable, retried
from t2tbuild.spec.search import Search


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

    With `patient`, the database was open before: one that cannot be reached is tried again for RETRY_SECONDS, and the
    error is a StorageError.
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
        kind = StorageError if patient else InputError  # it could be opened when the search began
        raise kind(f"the storage {shown_url} cannot be opened: {reason}") from None


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
