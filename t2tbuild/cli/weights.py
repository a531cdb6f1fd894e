"""Choose the weights of a command: those of --weights, of a run, or of the spec; download them if need be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from t2tbuild.cli.console import stderr
from t2tbuild.errors import FieldError, InputError
from t2tbuild.files import exists

if TYPE_CHECKING:
    from t2tbuild.spec import Spec
    from t2tbuild.spec.weights import Weights

WEIGHTS_HELP = "A checkpoint, safetensors or run, released, or hf-hub:ORG/NAME; by default the run's or the spec's."


def choose_weights(text: str, spec: Spec, file: str | None) -> Weights | None:
    """Return the weights of --weights, of the run that `text` names, or of the spec; None if there are none.

    Released weights and those of the Hub are downloaded now. Raises InputError if the file does not exist. Prints a
    warning if the latest checkpoint of a run is broken.
    """
    from t2tbuild.spec.weights import LOCAL_DIR, is_remote
    from t2tbuild.weights.resolve import resolve_weights

    source = resolve_weights(text)
    for skipped in () if file is not None else source.skipped:
        stderr().print(f"a checkpoint is broken, so an earlier one is used: {skipped}", soft_wrap=True)
    weights = source.choose(spec, file)
    if weights is not None and is_remote(weights.file):
        fetch_with_progress(weights.file)
    elif weights is not None and not exists(Path(weights.file.removeprefix(LOCAL_DIR))):
        raise InputError(f"{weights.file}: no such file or folder of weights")
    return weights


def fetch_spec_weights(spec: Spec) -> None:
    """Download the initial weights of a training, and its teacher's, where the spec names a download.

    Raises FieldError at the field that names weights which do not exist.
    """
    from t2tbuild.spec.weights import is_remote
    from t2tbuild.weights.released import named_weights

    for field, weights in named_weights(spec):
        if is_remote(weights.file):
            try:
                fetch_with_progress(weights.file)
            except InputError as error:
                raise FieldError(field, "released", str(error)) from None


def fetch_with_progress(name: str) -> Path:
    """Return the cached file or folder of released weights or of a repository of the Hub, downloaded if need be.

    Prints the licence of released weights when they are downloaded, and each time what to know before using them.
    """
    from t2tbuild.cli.download_progress import DownloadProgress
    from t2tbuild.spec.weights import RELEASED
    from t2tbuild.weights.released import released_weights
    from t2tbuild.weights.remote import fetch

    released = released_weights().get(name.removeprefix(f"{RELEASED}:"))
    is_new = released is not None and not released.is_cached
    with DownloadProgress(stderr(), name) as progress:
        path = fetch(name, progress.update)
    if released is not None and (is_new or released.note):
        stderr().print(f"{name}: {released.notice if is_new else released.note}", soft_wrap=True)
    return path
