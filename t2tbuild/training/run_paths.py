"""Names and paths in a run directory. Torch-free, so that a command can show them at once."""

import fcntl
from datetime import datetime
from pathlib import Path

from t2tbuild.errors import InputError

CHECKPOINT_FILES = ("model.safetensors", "progress.json", "state.pt")


def default_run_directory(name: str) -> Path:
    """Return a new folder below runs/, named by the run and the time."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    taken = sum(1 for _ in Path("runs").glob(f"{stem}*"))
    return Path("runs") / (f"{stem}-{taken + 1}" if taken else stem)


def require_run_or_empty(folder: Path) -> None:
    """Raise InputError where a folder has files that are not those of a run; hidden ones do not count."""
    if not (folder / "spec.yaml").exists() and any(not child.name.startswith(".") for child in folder.iterdir()):
        raise InputError(f"{folder}: holds files but no spec.yaml of a run; choose another --out")


def require_unused(folder: Path) -> None:
    """Raise InputError where another process has the run in a folder for itself, see `open_run`."""
    try:
        lock = (folder / ".lock").open()
    except OSError:  # there is none yet, or `open_run` says what is wrong
        return
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            raise in_use(folder) from None


def in_use(folder: Path) -> InputError:
    """Return the error of a run directory that another process has locked."""
    return InputError(f"{folder}: another process uses it; choose another --out")
