"""Retries of a call while the database of a search cannot be reached."""

import functools
import math
import sqlite3
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import sqlalchemy
from sqlalchemy.exc import DBAPIError

P = ParamSpec("P")
T = TypeVar("T")

RETRY_SECONDS = 120.0
"""A worker gives up when the database was unreachable for this many seconds."""
GIVEN_UP = "the database was unreachable for too long"
"""The note of an error after which nothing is called again."""
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
