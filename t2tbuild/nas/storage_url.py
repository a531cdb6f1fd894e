"""How a storage is named: by a URL that may hold a password, which is never shown or saved. Torch-free."""

import os
import re
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.files import redact

DATABASE = "study.db"
"""The study's file in a run directory."""
VARIABLE = "T2TBUILD_STORAGE"
"""The environment variable that names the storage, so that no password stands in a command."""
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""The storages by the scheme of their URL, and what SQLAlchemy reaches them by."""

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)(\+[a-zA-Z0-9_]+)?://")


def storage_url(given: str | None, run: Path) -> str:
    """The URL of the storage.

    It is the one given, else the SQLite file that is in the run directory, else the environment's, else a new SQLite
    file in the run directory. Raises InputError for a scheme that is not known.
    """
    named = _named(given, run)
    if not named:
        from sqlalchemy import URL

        return URL.create("sqlite", database=str(run.resolve() / DATABASE)).render_as_string()  # any folder name
    match = _SCHEME.match(named)
    scheme = match[1].lower() if match else ""
    scheme = {"postgres": "postgresql", "mariadb": "mysql"}.get(scheme, scheme)
    if match is None or scheme not in DRIVERS:
        known = ", ".join(f"{name}://" for name in DRIVERS)
        raise InputError(f"--storage {scheme or redact(named)!r}: no such storage; it is one of {known}")
    return named if match[2] else DRIVERS[scheme] + named[match.end(1) :]


def is_shared(given: str | None, run: Path) -> bool:
    """Whether a storage is named, which other machines may share, rather than a file in the run directory."""
    return bool(_named(given, run))


def _named(given: str | None, run: Path) -> str | None:
    return given or (None if (run / DATABASE).exists() else os.environ.get(VARIABLE))
