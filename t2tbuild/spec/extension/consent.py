"""Consent to run extensions: a spec is data, an extension is code that the user must have allowed.

A list in the user's state folder has the SHA-256 sums of the contents that are allowed, and the paths of the user's own
files, which may be edited. `--allow-extensions` adds contents only; `t2tbuild check FILE` adds the path too. Nothing in
a spec, a run or a checkpoint can give consent.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from t2tbuild.files import atomic_write

ALLOW_OPTION = "--allow-extensions"
"""Option of every command: allows the contents of the extensions that it loads, from now on."""

ALLOW_VARIABLE = "T2TBUILD_ALLOW_EXTENSIONS"
"""Environment variable: 1 allows every extension of a process. Worker processes get SHA-256 sums in its place."""

COPIES = "extensions"
"""Folder of a run with the copies of its extensions."""

RESULTS = ("environment.json", "metrics.jsonl", "checkpoints", "study.db", "trials", "report.json")
"""Files of which a folder with a spec.yaml has at least one if it holds a run."""

OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH

_granted: ContextVar[bool] = ContextVar("granted", default=False)
_used: set[str] = set()  # the sums of what this process has imported


class AllowedList(NamedTuple):
    """The consents of a user."""

    files: Mapping[str, str]
    """Own files by absolute path, each with its SHA-256 at the time of the consent."""
    sums: Mapping[str, str]
    """The name of a file of each allowed content, by its SHA-256."""


def state_file() -> Path | None:
    """Return the file that lists the allowed extensions, or None for a user without a home folder."""
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        folder = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return folder / "t2tbuild" / "extensions.json"


@contextlib.contextmanager
def granting(consent: bool) -> Iterator[None]:
    """Allow every extension that is loaded in this context, if there is consent. Their contents stay allowed."""
    token = _granted.set(consent or _granted.get())
    try:
        yield
    finally:
        _granted.reset(token)


def is_allowed(path: Path, sha256: str) -> bool:
    """Whether a file with this content may be imported: by an option, by the variable, or by the user's list.

    What this process has imported before is allowed.
    """
    if sha256 in _used or _granted.get() or _allowed_by_variable(sha256):
        return True
    allowed = read_list()
    return sha256 in allowed.sums or (str(path) in allowed.files and not reason_against_path(path))


def record_content(path: Path, sha256: str) -> str:
    """Keep the consent to a content that was imported, and hand it to worker processes of this process.

    What the variable alone allows is not kept. Returns the reason why a consent could not be kept, or an empty string.
    """
    _used.add(sha256)
    allowed = read_list()
    by_path = str(path) in allowed.files and not reason_against_path(path)
    if sha256 in allowed.sums or not (_granted.get() or by_path):
        return ""
    return _add(AllowedList({}, {sha256: path.name}))


def record_own_file(path: Path, sha256: str) -> str:
    """Allow a file that the user may edit, and copies of its content.

    Where `reason_against_path` has a reason, only the content is allowed. Returns the reason why the consent could not
    be kept, or an empty string.
    """
    return _add(AllowedList({} if reason_against_path(path) else {str(path): sha256}, {sha256: path.name}))


def worker_environment() -> dict[str, str]:
    """Return the variables of worker processes: a consent for this process covers what it has imported, and no more."""
    return {ALLOW_VARIABLE: ",".join(sorted(_used))}


def reason_against_path(path: Path) -> str:
    """Return the reason why a file is allowed by its content only, or an empty string if its path may be listed."""
    if (run := _run_around(path)) is not None:
        return f"it belongs to the run {run}"
    return _reason_of_owner(path) or next(filter(None, map(_reason_of_folder, path.parents)), "")


def read_list() -> AllowedList:
    """Return the consents of the user. A list that is damaged, or that another user may write, allows nothing."""
    nothing, path = AllowedList({}, {}), state_file()
    if path is None or _reason_of_owner(path):
        return nothing
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = AllowedList(data["files"], data["sha256"])
    except (OSError, ValueError, TypeError, KeyError):
        return nothing
    return found if all(isinstance(one, dict) for one in found) else nothing


def _allowed_by_variable(sha256: str) -> bool:
    value = os.environ.get(ALLOW_VARIABLE, "")
    return value == "1" or sha256 in value.split(",")


def _run_around(path: Path) -> Path | None:
    """Return the folder of the run that a file is in, or None."""
    for folder in path.parents:
        inside = folder / COPIES in (path.parent, *path.parent.parents)
        if (folder / "spec.yaml").exists() and (inside or any((folder / name).exists() for name in RESULTS)):
            return folder
    return None


def _reason_of_owner(path: Path) -> str:
    """Return the reason why another user could change a file, or an empty string."""
    try:
        found = path.stat()
    except OSError:
        return "it cannot be read"
    if found.st_uid != os.getuid():
        return f"it belongs to another user, {found.st_uid}"
    return "other users may write it; run chmod go-w" if found.st_mode & _others_may_write(found) else ""


def _reason_of_folder(folder: Path) -> str:
    """Return the reason why another user could exchange the files of a folder, or an empty string."""
    found = folder.stat()
    if found.st_uid not in (0, os.getuid()):
        return f"its folder {folder} belongs to another user, {found.st_uid}"
    if found.st_mode & stat.S_ISVTX or not found.st_mode & _others_may_write(found):
        return ""
    return f"other users may write its folder {folder}; run chmod go-w"


def _others_may_write(found: os.stat_result) -> int:
    """Return the permissions that other users must not have; the group with the user's number has no other members."""
    return stat.S_IWOTH if found.st_gid == found.st_uid else OTHERS_MAY_WRITE


def _add(consents: AllowedList) -> str:
    """Add consents to the user's list. Returns the reason why that is not possible, or an empty string."""
    from filelock import FileLock, Timeout  # takes longer to import than all of this module

    path = state_file()
    if path is None:
        return "there is no home folder to keep it in; set XDG_STATE_HOME"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(path.with_suffix(".lock"), timeout=10):
            if path.exists() and (reason := _reason_of_owner(path)):
                return f"{path}: {reason}"
            old = read_list()
            data = {"files": {**old.files, **consents.files}, "sha256": {**old.sums, **consents.sums}}
            if not path.exists():
                path.touch(mode=0o600)  # its mode stays
            atomic_write(path, json.dumps(data, indent=1) + "\n")
    except Timeout:
        return f"{path}: another process has locked it"
    except OSError as error:
        return f"{path}: cannot be written: {error.strerror}"
    return ""
