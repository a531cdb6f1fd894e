"""The URL of a storage. It may contain a password, which is never shown or saved. Torch-free."""

import os
import re
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.files import redact

DATABASE = "study.db"
"""The study's file in a run directory."""
VARIABLE = "T2TBUILD_STORAGE"
"""The environment variable with the URL, so that no password appears in a command."""
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""SQLAlchemy's dialects and drivers by the scheme of a URL."""

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)(\+[a-zA-Z0-9_]+)?://")


def storage_url(given: str | None, run: Path) -> str:
    """Return the URL of the storage.

    In this order: the one given, an existing SQLite file in the run directory, the environment's, a new SQLite file in
    the run directory. Raises InputError for an unknown scheme, and for a database in memory.
    """
    named = _named_storage(given, run)
    if not named:
        from sqlalchemy import URL

        database = Path(os.path.realpath(run), DATABASE)  # Path.resolve raises for a loop of links
        return URL.create("sqlite", database=str(database)).render_as_string()  # any folder name
    match = _SCHEME.match(named)
    scheme = match[1].lower() if match else ""
    scheme = {"postgres": "postgresql", "mariadb": "mysql"}.get(scheme, scheme)
    if match is None or scheme not in DRIVERS:
        known = ", ".join(f"{name}://" for name in DRIVERS)
        raise InputError(f"--storage {scheme or redact(named)!r}: no such storage; write one of {known}")
    if scheme == "sqlite" and named[match.end() :].strip("/").partition("?")[0] in ("", ":memory:"):
        raise InputError(f"--storage {named!r}: workers cannot share a database in memory; write sqlite:///FILE")
    return named if match[2] else DRIVERS[scheme] + named[match.end(1) :]


def is_shared(given: str | None, run: Path) -> bool:
    """Whether the storage is a named database, which machines may share, and not a file in the run directory."""
    return bool(_named_storage(given, run))


def _named_storage(given: str | None, run: Path) -> str | None:
    return given or (None if (run / DATABASE).exists() else os.environ.get(VARIABLE))
