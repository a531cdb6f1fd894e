"""Where downloaded weights are kept, and whether downloads are allowed. Torch-free."""

import os
from pathlib import Path

from platformdirs import user_cache_path

CACHE = "T2TBUILD_CACHE"
"""Environment variable: the folder of caches, in place of the platform's (~/.cache/t2tbuild on Linux)."""
OFFLINE = ("T2TBUILD_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables that turn downloads off, where they are 1, on, yes or true."""


def cache_folder() -> Path:
    """Return the folder of t2tbuild's caches; it may not exist yet."""
    named = os.environ.get(CACHE, "").strip()
    return Path(named).expanduser().absolute() if named else user_cache_path("t2tbuild", appauthor=False)


def is_offline() -> bool:
    """Return whether the user has turned downloads off."""
    return any(os.environ.get(name, "").lower() in ("1", "on", "yes", "true") for name in OFFLINE)
