"""Consent to run extensions: a spec is data, an extension is code that the user must have allowed.

A file in the user's state folder lists the files that are allowed, and the SHA-256 sums of allowed contents. A file
that is listed by its path may be edited; a copy of it is allowed by its sum. Nothing in a spec, a run or a checkpoint
can give consent.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from t2tbuild.files import atomic_write

ALLOW_VARIABLE = "T2TBUILD_ALLOW_EXTENSIONS"
"""Environment variable: 1 allows all extensions that a command loads. Worker processes inherit it."""

COPIES = "extensions"
"""Folder of a run with the copies of its extensions."""

_granted: ContextVar[bool] = ContextVar("granted", default=False)


def state_file() -> Path:
    """Return the file that lists the allowed extensions."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return folder / "t2tbuild" / "extensions.json"


@contextlib.contextmanager
def granting(consent: bool) -> Iterator[None]:
    """Allow every extension that is loaded in this context, if there is consent."""
    token = _granted.set(consent or _granted.get())
    try:
        yield
    finally:
        _granted.reset(token)


def is_granted() -> bool:
    """Whether the user has allowed all extensions of this command or call."""
    return _granted.get() or os.environ.get(ALLOW_VARIABLE, "") == "1"


def check(path: Path, sha256: str) -> bool:
    """Whether a file may be imported: its path is listed, or the sum of its content, or the user allows it now.

    Records the consent, and the content of an own file that was edited. A copy that is allowed by its content does not
    become an own file.
    """
    files, sums = _read()
    if str(path) in files or is_granted():
        allow(path, sha256)
        return True
    return sha256 in sums


def allow(path: Path, sha256: str) -> None:
    """Record that a file and its copies may be imported. A file in a run's folder is allowed by its content only.

    If the state folder cannot be written, the consent holds for this call alone.
    """
    _record({} if is_copy_in_run(path) else {str(path): sha256}, {sha256: path.name})


def is_copy_in_run(path: Path) -> bool:
    """Whether a file is the copy of an extension in a run's folder."""
    above = list(path.parents)[:2]
    return any(folder.name == COPIES and (folder.parent / "spec.yaml").exists() for folder in above)


def _record(files: dict[str, str], sums: dict[str, str]) -> None:
    from filelock import FileLock  # takes longer to import than all of this module

    target = state_file()
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(target.with_suffix(".lock"), timeout=10):
            old_files, old_sums = _read()
            if files.items() <= old_files.items() and sums.keys() <= old_sums.keys():
                return
            data = {"files": old_files | files, "sha256": old_sums | sums}
            atomic_write(target, json.dumps(data, indent=1) + "\n")


def _read() -> tuple[dict[str, str], dict[str, str]]:
    """Return the allowed files, each with its sum then, and the allowed sums. A damaged list allows nothing."""
    try:
        data = json.loads(state_file().read_text(encoding="utf-8"))
        files, sums = data["files"], data["sha256"]
    except (OSError, ValueError, TypeError, KeyError):
        return {}, {}
    if not (isinstance(files, dict) and isinstance(sums, dict)):
        return {}, {}
    return files, sums
