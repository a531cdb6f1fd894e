"""Read a file or folder of weights into named tensors, without running any code it may contain."""

import argparse
import mmap
import re
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from t2tbuild import manifest
from t2tbuild.errors import InputError
from t2tbuild.files import exists, is_dir, is_file
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec.weights import LOCAL_DIR, WEIGHT_FILES, is_remote
from t2tbuild.weights.remote import fetch
from t2tbuild.weights.resolve import describe_untrained, resolve_weights, weight_file

GRID = "position_grid"  # key in the metadata of our safetensors: the grid of the position embedding
STATE_DICT_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model", "net")  # in order of preference
WRAPPER_PREFIXES = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile
SAFE_CLASSES = (argparse.Namespace,)  # the options that timm's and the authors' training scripts save
MAX_TENSORS = 100_000  # in a file: each costs the reader a tenth of a millisecond, however small it is
MAX_UNPACKED = 4  # times the size of a file; torch does not compress
ZIP_START = b"PK\x03\x04"  # at which torch recognises a zip archive; Python's zipfile reads the end of a file
BYTES_OF_ANY_SIZE = b"bytearray"  # torch's restricted reader lets a pickle of 40 bytes allocate all memory with it


@dataclass(frozen=True)
class StoredWeights:
    """The tensors of a file by name; `grid` is that of the position embedding, if the file contains it."""

    tensors: dict[str, Tensor]
    grid: tuple[int, int] | None = None


def read_weights(path: str | Path) -> StoredWeights:
    """Read a checkpoint (.pth.tar, .pth, .bin), safetensors, timm's local-dir folder, a run directory, or a download.

    `released:NAME` and `hf-hub:ORG/NAME` are downloaded unless they are cached.

    Prefers the averaged weights (EMA) of a checkpoint. Loads pickles with weights_only. Raises InputError if there is
    no such file, if it is damaged, or if it holds more than tensors.
    """
    name = str(path)
    file = _find_file(fetch(name) if is_remote(name) else Path(name.removeprefix(LOCAL_DIR)))
    if not is_file(file):
        raise InputError(f"{file}: not a regular file; name a file or folder of weights")
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    return StoredWeights(unwrap_state(_read_pickle(file), str(file)))


def _find_file(path: Path) -> Path:
    """Return the file of weights that a path names: itself, that of a folder, or of a run's newest valid checkpoint."""
    source = resolve_weights(path)
    if source.checkpoint is None:
        if source.skipped:
            raise InputError("no valid checkpoint is left:\n" + "\n".join(source.skipped))
        if not exists(path):
            raise InputError(f"{path}: no such file or folder of weights")
        if not is_dir(path):
            return path
        if hint := describe_untrained(path):
            raise InputError(hint)
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:8]) or "nothing"
        raise InputError(f"{path}: a folder without {' or '.join(WEIGHT_FILES)}; it holds {inside}")
    file = weight_file(source.checkpoint)
    if file is None:
        return source.checkpoint
    if source.checkpoint == path and (path / manifest.NAME).is_file():  # a run's checkpoint has been verified already
        reason = manifest.verify(path, [file.name])
        if reason:
            raise InputError(f"{path}: {reason}")
    return file


def _read_safetensors(file: Path) -> StoredWeights:
    try:
        metadata, tensors = load_tensors(file)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:  # also of a type torch lacks
        raise InputError(f"{file}: not readable as safetensors: {error}") from None
    return StoredWeights(tensors, _parse_grid(metadata.get(GRID, "")))


def load_tensors(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the metadata and tensors of a safetensors file. Raises SafetensorError for one of too many tensors."""
    with safe_open(file, framework="pt") as opened:
        if len(opened.keys()) > MAX_TENSORS:
            raise SafetensorError(f"it has {len(opened.keys()):,} tensors, more than {MAX_TENSORS:,}")
        metadata = opened.metadata() or {}
    return metadata, load_file(file)


def _parse_grid(text: str) -> tuple[int, int] | None:
    """Parse rows and columns as `position_metadata` writes them; None for the text of another program."""
    match = re.fullmatch(r"(\d{1,5}) x (\d{1,5})", text)
    return (int(match[1]), int(match[2])) if match else None


def position_metadata(model: nn.Module) -> dict[str, str]:
    """Return the metadata to save with a model's tensors: the grid of its position embedding."""
    return {GRID: f"{model.grid[0]} x {model.grid[1]}"} if isinstance(model, T2TViT) else {}


def _read_pickle(file: Path) -> Any:
    require_bounded(file)
    try:
        with torch.serialization.safe_globals(list(SAFE_CLASSES)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickle protocols
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged pickle can raise almost any type
        unsafe = _unsafe_globals(file, str(error))
        if not unsafe:
            raise InputError(f"{file}: not readable as a torch checkpoint; damaged, or of another format") from None
        raise InputError(
            f"{file}: was not loaded: it holds more than tensors: {unsafe}; loading such objects can run any code. "
            "Ask its author for safetensors or a bare state dict; if you trust the file, save its tensors alone in a "
            "separate process and load that file"
        ) from None


def require_bounded(file: Path) -> None:
    """Raise InputError where a pickle, or a zip archive with one, would take much more memory than its size."""
    unbounded, unpacked, in_zip = False, 0, False
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            unbounded = content.find(BYTES_OF_ANY_SIZE) >= 0
            is_zip = content[:4] == ZIP_START
        if is_zip:
            unpacked, in_zip = _read_zip(file)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        pass  # empty or damaged
    if unpacked:
        raise InputError(f"{file}: was not loaded: it is compressed, and unpacked it would have {unpacked:,} bytes")
    if unbounded or in_zip:
        raise InputError(f"{file}: was not loaded: it holds more than tensors: a bytearray, of any size")


def _read_zip(file: Path) -> tuple[int, bool]:
    """Return the unpacked size of a zip archive that is a bomb, otherwise 0, and whether a pickle has a bytearray."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        unpacked = sum(one.file_size for one in members)
        if unpacked > MAX_UNPACKED * max(file.stat().st_size, 2**20):
            return unpacked, False
        pickles = [one for one in members if one.filename.endswith("data.pkl")]
        return 0, any(BYTES_OF_ANY_SIZE in archive.read(one) for one in pickles)


def _unsafe_globals(file: Path, message: str) -> str:
    """List the classes and functions that a file imports, without the safe ones."""
    try:
        names = set(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # torch cannot list those of the old format, but its message names the first
        names = set(re.findall(r"GLOBAL ([\w.]+)", message))
    return ", ".join(sorted(names - {f"{kind.__module__}.{kind.__qualname__}" for kind in SAFE_CLASSES}))


def unwrap_state(loaded: Any, file: str) -> dict[str, Tensor]:
    """Return the weights of a loaded checkpoint, without the prefixes of wrappers; errors name the `file`."""
    if not isinstance(loaded, dict):
        raise InputError(f"{file}: not a state dict: it holds {type(loaded).__name__}")
    nested = [loaded[name] for name in STATE_DICT_KEYS if isinstance(loaded.get(name), dict) and loaded[name]]
    state = nested[0] if nested else loaded
    if not state or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        keys = ", ".join(map(str, list(state)[:8])) or "none"
        raise InputError(
            f"{file}: not a state dict: it holds the keys {keys}; "
            f"expected one of {', '.join(STATE_DICT_KEYS)}, or tensors"
        )
    unsupported = [key for key, value in state.items() if value.layout != torch.strided or value.is_quantized]
    if unsupported:
        raise InputError(f"{file}: {unsupported[0]} is sparse or quantized; only dense tensors can be loaded")
    while wrapped := [prefix for prefix in WRAPPER_PREFIXES if all(key.startswith(prefix) for key in state)]:
        state = {key.removeprefix(wrapped[0]): value for key, value in state.items()}
    return state
