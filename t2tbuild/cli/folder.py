"""Checks of the --out folder that need no heavy import."""

import os
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.training.run_paths import require_run_or_empty


def existing_parent(out: Path | None) -> Path:
    """Return the nearest parent of `out` that exists; of runs/ if `out` is None."""
    nearest = (out or Path("runs")).absolute()
    while not nearest.is_dir():
        nearest = nearest.parent
    return nearest


def require_folder(out: Path | None) -> None:
    """Raise InputError if `out` cannot become a run directory: it is a file, or it is not writable."""
    nearest = out
    while nearest is not None and not nearest.exists():
        nearest = nearest.parent
    if nearest is not None and not nearest.is_dir():
        raise InputError(f"--out {out}: {nearest} is a file, not a folder; choose another --out")
    if nearest is not None and not os.access(nearest, os.W_OK):
        raise InputError(f"--out {out}: {nearest} cannot be written; choose another --out")


def require_run_folder(out: Path | None) -> None:
    """Raise InputError if `out` can neither become a run directory nor be one."""
    require_folder(out)
    if out is not None and out.is_dir():
        require_run_or_empty(out)
