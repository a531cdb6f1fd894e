"""The --out folder, looked at before anything heavy is imported."""

import os
from pathlib import Path

from t2tbuild.errors import InputError


def nearest_folder(out: Path | None) -> Path:
    """The folder that is there already and in which `out` would come to lie."""
    nearest = (out or Path("runs")).absolute()
    while not nearest.is_dir():
        nearest = nearest.parent
    return nearest


def require_folder(out: Path | None) -> None:
    """Raises InputError when `out` cannot become a run directory: a file stands there, or nothing may be written."""
    nearest = out
    while nearest is not None and not nearest.exists():
        nearest = nearest.parent
    if nearest is not None and not nearest.is_dir():
        raise InputError(f"--out {out}: {nearest} is a file, not a folder; choose another --out")
    if nearest is not None and not os.access(nearest, os.W_OK):
        raise InputError(f"--out {out}: {nearest} cannot be written; choose another --out")
