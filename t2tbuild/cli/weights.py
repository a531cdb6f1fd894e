"""Choose the weights of a command: those of --weights, of a run, or of the spec."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from t2tbuild.cli.console import stderr
from t2tbuild.errors import InputError
from t2tbuild.files import exists

if TYPE_CHECKING:
    from t2tbuild.spec import Spec
    from t2tbuild.spec.weights import Weights


def choose_weights(text: str, spec: Spec, file: str | None) -> Weights | None:
    """Return the weights of --weights, of the run that `text` names, or of the spec; None if there are none.

    Raises InputError if the file does not exist. Prints a warning if the latest checkpoint of a run is broken.
    """
    from t2tbuild.spec.weights import LOCAL_DIR, Weights
    from t2tbuild.weights.resolve import resolve_weights

    if file is not None:
        weights: Weights | None = Weights(file=file)
    else:
        source = resolve_weights(text)
        for skipped in source.skipped:
            stderr().print(f"a checkpoint is broken, so an earlier one is used: {skipped}", soft_wrap=True)
        weights = source.choose(spec)
    if weights is not None and not exists(Path(weights.file.removeprefix(LOCAL_DIR))):
        raise InputError(f"{weights.file}: no such file or folder of weights")
    return weights
