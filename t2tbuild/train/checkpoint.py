"""Checkpoints that a kill at any instant cannot spoil.

A checkpoint is a directory, written under a temporary name, flushed to disk, then renamed. It holds model.safetensors,
state.pt (optimiser, read with weights_only), progress.json, and, written last, the manifest of their SHA-256 sums.
"""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from t2tbuild import manifest
from t2tbuild.errors import TrainingError

KEPT = 2
FILES = ("model.safetensors", "progress.json", "state.pt")


@dataclass(frozen=True)
class Checkpoint:
    """What training continues from: tensors of the model, the optimiser's state, and how far it got.

    `metadata` is written beside the tensors, for whoever loads these weights elsewhere.
    """

    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    progress: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)


def save_checkpoint(folder: Path, name: str, checkpoint: Checkpoint) -> Path:
    """Write `folder/name` and keep the newest two by name. Raises TrainingError when the disk does not take it."""
    target, temporary = folder / name, folder / f".{name}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        tensors = {key: value.contiguous() for key, value in checkpoint.model.items()}
        save_file(tensors, temporary / "model.safetensors", checkpoint.metadata)
        with (temporary / "state.pt").open("wb") as stream:
            torch.save(checkpoint.optimizer, stream)
        (temporary / "progress.json").write_text(json.dumps(checkpoint.progress))
        manifest.write_manifest(temporary, FILES)
        for path in (*temporary.iterdir(), temporary):
            _flush(path)
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        _flush(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"the checkpoint {target} cannot be written: {_reason(error)}") from error
    for old in manifest.children(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _reason(error: BaseException) -> BaseException:
    """The system's error behind torch's own, which only tells of an unexpected position in the file."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause or error


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest sound checkpoint of `folder`, or None when there is none. Broken ones are passed over.

    Raises TrainingError when there are checkpoints and none is sound.
    """
    newest, broken = manifest.newest_sound(folder, FILES)
    if newest:
        return _read(newest)
    if broken:
        raise TrainingError("no sound checkpoint is left:\n" + "\n".join(broken))
    return None


def _read(path: Path) -> Checkpoint:
    return Checkpoint(
        model=load_file(path / "model.safetensors"),
        optimizer=torch.load(path / "state.pt", map_location="cpu", weights_only=True),
        progress=json.loads((path / "progress.json").read_text()),
    )


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
