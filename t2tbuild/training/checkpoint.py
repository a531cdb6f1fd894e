"""Checkpoints that survive a kill at any instant.

A checkpoint is a directory. It is written under a temporary name, flushed to disk and renamed. It holds
model.safetensors, config.json (the model, in the format of timm's local-dir), state.pt (optimiser, read with
weights_only), progress.json, and, written last, the manifest of their SHA-256 sums. With averaged weights (EMA), these
are in model.safetensors and the trained weights in trained.safetensors.
"""

import json
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from t2tbuild import manifest
from t2tbuild.errors import TrainingError
from t2tbuild.files import read_json
from t2tbuild.training.run_paths import CHECKPOINT_FILES
from t2tbuild.weights.read import load_tensors, require_bounded

CHECKPOINTS_KEPT = 2
"""Number of latest checkpoints to keep, beside the best one."""
TRAINED = "trained.safetensors"

DISK_ERRORS = ("unexpected pos", "os error", "I/O error")
"""Parts of the messages of torch and safetensors when the disk refuses to write."""


class DiskError(TrainingError):
    """A checkpoint cannot be written: the disk is full or gone."""


@dataclass(frozen=True)
class Checkpoint:
    """A training state: tensors of the model, of its average (EMA) if there is one, of the optimiser, and the progress.

    `metadata` is written beside the tensors and `config` as config.json, for other programs that load the weights.
    """

    model: dict[str, torch.Tensor]
    state: dict[str, Any]
    progress: dict[str, Any]
    ema: dict[str, torch.Tensor] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    config: str | None = None


def save_checkpoint(folder: Path, name: str, checkpoint: Checkpoint, keep: Collection[str] = ()) -> Path:
    """Write `folder/name`. Keep it, the one before it by name, and those named in `keep`; delete the others.

    Checkpoints after it by name belong to steps that are trained again, so they are deleted too. Raises DiskError when
    the disk refuses to write; then nothing of this one is left, and all others are unchanged.
    """
    target, temporary = folder / name, folder / f".{name}.tmp"
    try:
        _delete(temporary).mkdir(parents=True)
        _write_files(temporary, checkpoint)
        for path in (*temporary.iterdir(), temporary):
            _fsync(path)
        if target.exists():  # an invalid one, or one of the same step
            target.replace(_delete(folder / f".{name}.old"))
        temporary.replace(target)
        _fsync(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        cause = _system_error(error)
        if not isinstance(cause, OSError) and not any(words in str(cause) for words in DISK_ERRORS):
            raise
        raise DiskError(f"the checkpoint {target} cannot be written: {cause}") from error
    earlier = [child.name for child in manifest.children(folder) if child.name < name]
    kept = {name, *earlier[1 - CHECKPOINTS_KEPT :], *keep}
    for child in folder.iterdir():
        hidden = child.name.startswith(".")
        ours = child.suffix in (".tmp", ".old") if hidden else (child / manifest.NAME).exists()
        if ours and child.name not in kept:
            shutil.rmtree(child, ignore_errors=True)
    return target


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    files = list(CHECKPOINT_FILES)
    weights = checkpoint.model if checkpoint.ema is None else checkpoint.ema
    save_file(_contiguous(weights), folder / "model.safetensors", checkpoint.metadata)
    if checkpoint.ema is not None:
        save_file(_contiguous(checkpoint.model), folder / TRAINED, checkpoint.metadata)
        files.append(TRAINED)
    if checkpoint.config is not None:
        (folder / "config.json").write_text(checkpoint.config)
        files.append("config.json")
    with (folder / "state.pt").open("wb") as stream:
        torch.save(checkpoint.state, stream)
    (folder / "progress.json").write_text(json.dumps(checkpoint.progress))
    manifest.write_manifest(folder, files)


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.contiguous() for key, value in tensors.items()}


def _delete(path: Path) -> Path:
    """Delete a folder, or a link to one, if there is one, and return its path."""
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
    return path


def _system_error(error: BaseException) -> BaseException:
    """Return the OSError behind torch's own error, which only names an unexpected position in the file."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause or error


def find_latest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the latest valid checkpoint of `folder`, if any, and what is wrong with the later ones.

    Raises TrainingError when there are checkpoints and none is valid.
    """
    latest, invalid = manifest.latest_valid(folder, CHECKPOINT_FILES)
    if invalid and latest is None:
        raise TrainingError("no valid checkpoint is left:\n" + "\n".join(invalid))
    return latest, invalid


def hide_invalid_checkpoints(folder: Path, latest: Path | None) -> None:
    """Rename the invalid checkpoints after the latest valid one, so that they do not count as checkpoints to keep."""
    for child in manifest.children(folder):
        if latest is not None and child.name > latest.name:
            child.replace(_delete(folder / f".broken-{child.name}"))


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint that `find_latest_checkpoint` has verified. Raises TrainingError when it is unreadable."""
    try:
        require_bounded(path / "state.pt")
        _, weights = load_tensors(path / "model.safetensors")
        trained = load_tensors(path / TRAINED)[1] if (path / TRAINED).exists() else None
        return Checkpoint(
            model=weights if trained is None else trained,
            ema=None if trained is None else weights,
            state=torch.load(path / "state.pt", map_location="cpu", weights_only=True),
            progress=read_json(path / "progress.json"),
        )
    except Exception as error:  # a damaged pickle can raise any type
        raise TrainingError(f"{path}: cannot be read: {error}") from None


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
