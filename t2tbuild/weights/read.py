"""A file or folder of weights -> named tensors. Nothing that is read can run code."""

import argparse
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from t2tbuild import manifest
from t2tbuild.errors import InputError
from t2tbuild.spec.weights import LOCAL_DIR

GRID = "position_grid"  # metadata of our safetensors: rows and columns of the position embedding
NESTED = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model")  # the first that is there is taken
PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile
IN_FOLDER = ("model.safetensors", "pytorch_model.bin")
HARMLESS = (
    argparse.Namespace,
)  # the options that timm's training script, and so the authors', saves beside the weights


@dataclass(frozen=True)
class Stored:
    """Tensors by name as a file holds them; `grid` is that of its position embedding where the file says so."""

    tensors: dict[str, Tensor]
    grid: tuple[int, int] | None = None


def read_weights(path: str | Path) -> Stored:
    """Read a checkpoint (.pth.tar, .pth, .bin), safetensors, or a folder that holds one: timm's local-dir, a run.

    Of a checkpoint the averaged weights are preferred (state_dict_ema). Pickles are loaded with weights_only. Raises
    InputError when there is no such file, when it is damaged, or when it holds more than tensors.
    """
    file = _file(Path(str(path).removeprefix(LOCAL_DIR)))
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    return Stored(_tensors(_read_pickle(file), file))


def _file(path: Path) -> Path:
    """The file that a path means: itself, the weights of a folder, or those of a run's newest sound checkpoint."""
    if path.is_file():
        return path
    if not path.exists():
        raise InputError(f"{path}: no such file or folder of weights")
    broken = []
    for name in reversed(manifest.children(path / "checkpoints")):
        checkpoint = path / "checkpoints" / name
        wrong = manifest.problem(checkpoint, IN_FOLDER[:1])
        if not wrong:
            return checkpoint / IN_FOLDER[0]
        broken.append(f"{checkpoint}: {wrong}")
    if broken:
        raise InputError("no sound checkpoint is left:\n" + "\n".join(broken))
    found = [path / name for name in IN_FOLDER if (path / name).is_file()]
    if not found:
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:8]) or "nothing"
        raise InputError(f"{path}: a folder without {' or '.join(IN_FOLDER)}; it holds {inside}")
    if (path / manifest.NAME).is_file():
        wrong = manifest.problem(path, [found[0].name])
        if wrong:
            raise InputError(f"{path}: {wrong}")
    return found[0]


def _read_safetensors(file: Path) -> Stored:
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not readable as safetensors: {error}") from None
    rows, columns = json.loads(metadata[GRID]) if GRID in metadata else (0, 0)
    return Stored(tensors, (rows, columns) if rows else None)


def _read_pickle(file: Path) -> Any:
    try:
        with torch.serialization.safe_globals(list(HARMLESS)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickle protocols, which then fail or do not
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails with any of a dozen kinds
        found = _strange_objects(file, str(error))
        if not found:
            raise InputError(f"{file}: not readable as a torch checkpoint, damaged or of another kind") from None
        raise InputError(
            f"{file}: was not loaded: it holds more than tensors: {found}; loading such objects can run any code. "
            "Ask its author for safetensors or a bare state dict; if you trust it, save the tensors alone in a process "
            "of your own and load that file"
        ) from None


def _strange_objects(file: Path, message: str) -> str:
    """Names of the classes and functions that a file wants imported beyond those that are safe."""
    try:
        names = set(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # an old format, which torch cannot list: its refusal names the first
        names = set(re.findall(r"GLOBAL ([\w.]+)", message))
    return ", ".join(sorted(names - {f"{kind.__module__}.{kind.__qualname__}" for kind in HARMLESS}))


def _tensors(loaded: Any, file: Path) -> dict[str, Tensor]:
    """The weights among what a checkpoint holds, without the prefixes of wrappers."""
    if isinstance(loaded, dict):
        nested = [loaded[name] for name in NESTED if isinstance(loaded.get(name), dict)]
        loaded = nested[0] if nested else loaded
    found = (
        {key: value for key, value in loaded.items() if isinstance(value, Tensor)} if isinstance(loaded, dict) else {}
    )
    if not found or len(found) < len(loaded):
        what = (
            f"the keys {', '.join(map(str, list(loaded)[:8]))}" if isinstance(loaded, dict) else type(loaded).__name__
        )
        raise InputError(f"{file}: not a state dict: it holds {what}; expected one of {', '.join(NESTED)}, or tensors")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in found):
            found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found
