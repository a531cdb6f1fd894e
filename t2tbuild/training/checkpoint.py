"""Checkpoints that a kill at any instant cannot spoil.

A checkpoint is a directory, written under a temporary name, flushed to disk, then renamed. It holds model.safetensors,
config.json (the model, as timm's local-dir has it), state.pt (optimiser, read with weights_only), progress.json, and,
written last, the manifest of their SHA-256 sums. Where the recipe averages weights, the average is in model.safetensors
and the weights as they are trained are in trained.safetensors.
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
from safetensors.torch import load_file, save_file

from t2tbuild import manifest
from t2tbuild.errors import TrainingError

KEPT = 2
"""Checkpoints that are kept beside the best."""
FILES = ("model.safetensors", "progress.json", "state.pt")
TRAINED = "trained.safetensors"


DISK = ("unexpected pos", "os error", "I/O error")
"""What torch and safetensors say of a disk that takes no more."""


class DiskError(TrainingError):
    """A checkpoint cannot be written: the disk is full or gone."""


@dataclass(frozen=True)
class Checkpoint:
    """What training continues from: tensors of the model, the optimiser's state, and how far it got.

    `averaged` is the running average of the tensors, where there is one. `metadata` is written beside the tensors, and
    `config` as config.json, for whoever loads these weights elsewhere.
    """

    model: dict[str, torch.Tensor]
    state: dict[str, Any]
    progress: dict[str, Any]
    averaged: dict[str, torch.Tensor] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    config: str | None = None


def save_checkpoint(folder: Path, name: str, checkpoint: Checkpoint, keep: Collection[str] = ()) -> Path:
    """Write `folder/name`; keep it, the newest before it by name, and those named in `keep`.

    Those after it by name are of a future that is trained again, and go. Raises DiskError when the disk does not take
    it; nothing of it is left then, and all others are as they were.
    """
    target, temporary = folder / name, folder / f".{name}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write(temporary, checkpoint)
        for path in (*temporary.iterdir(), temporary):
            _flush(path)
        if target.exists():  # broken, or this very state
            target.replace(_emptied(folder / f".{name}.old"))
        temporary.replace(target)
        _flush(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = _reason(error)
        if not isinstance(reason, OSError) and not any(words in str(reason) for words in DISK):
            raise
        raise DiskError(f"the checkpoint {target} cannot be written: {reason}") from error
    older = [child.name for child in manifest.children(folder) if child.name < name]
    kept = {name, *older[1 - KEPT :], *keep}
    for child in folder.iterdir():
        ours = child.suffix in (".tmp", ".old") or (not child.name.startswith(".") and (child / manifest.NAME).exists())
        if ours and child.name not in kept:
            shutil.rmtree(child, ignore_errors=True)
    return target


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    files = list(FILES)
    best = checkpoint.model if checkpoint.averaged is None else checkpoint.averaged
    save_file(_dense(best), folder / "model.safetensors", checkpoint.metadata)
    if checkpoint.averaged is not None:
        save_file(_dense(checkpoint.model), folder / TRAINED, checkpoint.metadata)
        files.append(TRAINED)
    if checkpoint.config is not None:
        (folder / "config.json").write_text(checkpoint.config)
        files.append("config.json")
    with (folder / "state.pt").open("wb") as stream:
        torch.save(checkpoint.state, stream)
    (folder / "progress.json").write_text(json.dumps(checkpoint.progress))
    manifest.write_manifest(folder, files)


def _dense(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.contiguous() for key, value in tensors.items()}


def _emptied(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path


def _reason(error: BaseException) -> BaseException:
    """The system's error behind torch's own, which only tells of an unexpected position in the file."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause or error


def find_newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest sound checkpoint of `folder`, if there is one, and what is wrong with those after it.

    Raises TrainingError when there are checkpoints and none is sound.
    """
    newest, broken = manifest.latest_valid(folder, FILES)
    if broken and newest is None:
        raise TrainingError("no sound checkpoint is left:\n" + "\n".join(broken))
    return newest, broken


def set_aside(folder: Path, newest: Path | None) -> None:
    """Hide the broken checkpoints after the newest sound one, so that they are not taken for kept ones."""
    for child in manifest.children(folder):
        if newest is not None and child.name > newest.name:
            child.replace(_emptied(folder / f".broken-{child.name}"))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that `find_newest` found sound. Raises TrainingError when it is unreadable nevertheless."""
    try:
        best, trained = load_file(path / "model.safetensors"), None
        if (path / TRAINED).exists():
            trained = load_file(path / TRAINED)
        return Checkpoint(
            model=best if trained is None else trained,
            averaged=None if trained is None else best,
            state=torch.load(path / "state.pt", map_location="cpu", weights_only=True),
            progress=json.loads((path / "progress.json").read_text()),
        )
    except Exception as error:  # whatever a strange pickle runs into
        raise TrainingError(f"{path}: cannot be read: {error}") from None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
