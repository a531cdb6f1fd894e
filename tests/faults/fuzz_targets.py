"""The readers that benchmarks/fuzz.py attacks: any input is read or refused with an error of t2tbuild."""

import functools
import io
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from t2tbuild import manifest
from t2tbuild.cli.diagnostics import print_diagnostics
from t2tbuild.errors import SpecError, T2TBuildError
from t2tbuild.spec.load import read_any
from t2tbuild.training.checkpoint import TRAINED, Checkpoint, load_checkpoint, save_checkpoint
from t2tbuild.training.data.dataset import read_image
from t2tbuild.training.data.folder import ImageFiles
from t2tbuild.weights.label_names import read_label_names
from t2tbuild.weights.metadata import parse_metadata
from t2tbuild.weights.read import read_weights

CORPUS = Path(__file__).parent / "corpus"
MAX_PIXELS = 1_000_000
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
NAMES = ("model.safetensors", "model.pth", "state.pt", "progress.json", TRAINED, manifest.NAME, "metadata")
"""What the first byte of an input for the checkpoint reader chooses: the file that has the other bytes."""


def read_spec(data: bytes) -> None:
    """Read a YAML file. Its errors can be printed."""
    file = FOLDER / "x.yaml"
    file.write_bytes(data)
    try:
        read_any(file)
    except SpecError as error:
        print_diagnostics(Console(file=io.StringIO(), width=80), error.diagnostics)


def read_checkpoint(data: bytes) -> None:
    """Read one file of a checkpoint."""
    name = NAMES[data[0] % len(NAMES)] if data else NAMES[0]
    if name == "metadata":
        try:
            parse_metadata(data[1:].decode("utf-8", "replace"))
        except ValueError:
            return
        return
    folder = valid_checkpoint()
    file = folder / name
    before = file.read_bytes() if file.exists() else None
    file.write_bytes(data[1:])
    try:
        manifest.verify(folder, [name])
        if name in ("model.safetensors", "model.pth"):
            read_label_names(file)
            read_weights(file)
        else:
            load_checkpoint(folder)
    except T2TBuildError as error:
        str(error).encode()
    finally:
        if before is None:
            file.unlink()
        else:
            file.write_bytes(before)


@functools.cache
def valid_checkpoint() -> Path:
    weights = {"w": torch.zeros(2)}
    return save_checkpoint(FOLDER, "step-000000001", Checkpoint(weights, {"s": torch.zeros(2)}, {"epoch": 1}, weights))


def read_picture(data: bytes) -> None:
    """Read an image."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    file = FOLDER / "x.png"
    file.write_bytes(data)
    str(read_image(ImageFiles("", [os.fsencode(file)], np.zeros(1, int)), 0, mode="RGB"))


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "spec": read_spec,
    "checkpoint": read_checkpoint,
    "image": read_picture,
}
