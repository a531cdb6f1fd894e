"""A file or folder of weights -> named tensors. Nothing that is read can run code."""

import argparse
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from t2tbuild import manifest
from t2tbuild.errors import InputError
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec.weights import LOCAL_DIR

GRID = "position_grid"  # metadata of our safetensors: rows and columns of the position embedding
NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")  # the first that is there is taken
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


def newest_of_run(run: Path) -> tuple[Path, list[str]]:
    """The newest sound checkpoint of a run, and what is wrong with newer ones; the path itself where there is none."""
    newest, broken = manifest.latest_valid(run / "checkpoints", IN_FOLDER[:1])
    return newest or run, broken


def _file(path: Path) -> Path:
    """The file that a path means: itself, the weights of a folder, or those of a run's newest sound checkpoint."""
    if path.is_file():
        return path
    if not path.exists():
        raise InputError(f"{path}: no such file or folder of weights")
    found = [path / name for name in IN_FOLDER if (path / name).is_file()]
    if not found:
        newest, broken = manifest.latest_valid(path / "checkpoints", IN_FOLDER[:1])
        if newest:
            return newest / IN_FOLDER[0]
        if broken:
            raise InputError("no sound checkpoint is left:\n" + "\n".join(broken))
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:8]) or "nothing"
        raise InputError(f"{path}: a folder without {' or '.join(IN_FOLDER)}; it holds {inside}")
    if (path / manifest.NAME).is_file():
        wrong = manifest.verify(path, [found[0].name])
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
    return Stored(tensors, _grid(metadata.get(GRID, "")))


def _grid(text: str) -> tuple[int, int] | None:
    """Rows and columns as `position_metadata` writes them; None where another program wrote something else."""
    match = re.fullmatch(r"(\d{1,5}) x (\d{1,5})", text)
    return (int(match[1]), int(match[2])) if match else None


def position_metadata(model: nn.Module) -> dict[str, str]:
    """What is written beside a model's tensors, so that its position embedding fits other grids."""
    return {GRID: f"{model.grid[0]} x {model.grid[1]}"} if isinstance(model, T2TViT) else {}


def _read_pickle(file: Path) -> Any:
    try:
        with torch.serialization.safe_globals(list(HARMLESS)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickle protocols, which then fail or do not
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
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
    if not isinstance(loaded, dict):
        raise InputError(f"{file}: not a state dict: it holds {type(loaded).__name__}")
    nested = [loaded[name] for name in NESTED if isinstance(loaded.get(name), dict) and loaded[name]]
    state = nested[0] if nested else loaded
    if not state or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        keys = ", ".join(map(str, list(state)[:8])) or "none"
        raise InputError(
            f"{file}: not a state dict: it holds the keys {keys}; expected one of {', '.join(NESTED)}, or tensors"
        )
    strange = [key for key, value in state.items() if value.layout != torch.strided or value.is_quantized]
    if strange:
        raise InputError(f"{file}: {strange[0]} is sparse or quantized; only dense tensors can be loaded")
    while wrapped := [prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)]:
        state = {key.removeprefix(wrapped[0]): value for key, value in state.items()}
    return state
