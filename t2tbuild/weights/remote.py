"""Weights that are named by something else than a path: `released:NAME` and `hf-hub:ORG/NAME`. Torch-free."""

from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.spec.weights import HF_HUB, RELEASED
from t2tbuild.weights.download import OnProgress
from t2tbuild.weights.hub import fetch_repository, parse_repository
from t2tbuild.weights.released import fetch_released, find_released


def fetch(name: str, on_progress: OnProgress | None = None) -> Path:
    """Return the cached file or folder of `released:NAME` or `hf-hub:ORG/NAME`; download it first if it is not there.

    Raises InputError for a name that does not exist, and offline for weights that are not cached; DownloadError if
    the download fails.
    """
    require_known(name)
    if name.startswith(HF_HUB):
        return fetch_repository(name.removeprefix(HF_HUB))
    return fetch_released(name.removeprefix(f"{RELEASED}:"), on_progress)


def require_known(name: str) -> None:
    """Raise InputError if a name is wrong in itself. Downloads nothing; whether a repository exists is not known."""
    if name == RELEASED:
        raise InputError(f"{RELEASED}: names no model here; write {RELEASED}:NAME, for example {RELEASED}:t2t_vit_14")
    if name.startswith(HF_HUB):
        parse_repository(name.removeprefix(HF_HUB))
    else:
        find_released(name.removeprefix(f"{RELEASED}:"))
