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

from t2tbuild.errors import InputError, SearchError
from t2tbuild.files import redact
from t2tbuild.nas.store.lock import search_lock
from t2tbuild.nas.store.retry import retried
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
    """Turn an error of a database that stays unreachable into a SearchError. Stored results are kept."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        reason = redact(str(getattr(error.__cause__, "orig", error)).strip().split("\n", 1)[0])
        message = f"the storage is unreachable: {reason}; continue with: t2tbuild search resume {run}"
        raise SearchError(message) from error
