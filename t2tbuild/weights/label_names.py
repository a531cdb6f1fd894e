"""Names of the classes beside weights: in the metadata of a file, or in the config.json of a folder. Torch-free."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t2tbuild.files import is_dir, is_file, parse_json, read_json
from t2tbuild.weights.resolve import resolve_weights, weight_file

LABEL_NAMES = "label_names"
"""Key of the names: in timm's config.json a list, in the metadata of a file the list as JSON."""

MAX_HEADER = 100_000_000  # bytes, as in the safetensors library


def label_metadata(names: Sequence[str] | None) -> dict[str, str]:
    """Return the metadata to save with a model's weights: the names of its classes, if it has any."""
    return {} if names is None else {LABEL_NAMES: json.dumps(list(names), ensure_ascii=False)}


def read_label_names(path: str | Path) -> tuple[str, ...] | None:
    """Return the names of the classes that weights were trained on, None where they are not written beside them.

    `path` is a file of weights, a folder that timm opens as local-dir, or a run. Does not raise for a damaged file:
    reading its weights does.
    """
    found = Path(resolve_weights(path).file)
    file = weight_file(found) if is_dir(found) else found
    if file is None or not is_file(file):
        return None
    try:
        names = _read_metadata(file) if file.suffix == ".safetensors" else None
        if names is None and is_file(found / "config.json"):
            names = read_json(found / "config.json").get(LABEL_NAMES)
    except (OSError, ValueError, AttributeError, TypeError, struct.error):
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        return None
    return tuple(names)


def _read_metadata(file: Path) -> Any:
    """Return the names in the header of a safetensors file; None if it has none."""
    with file.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = parse_json(stream.read(size)) if size <= MAX_HEADER else {}
    text = header.get("__metadata__", {}).get(LABEL_NAMES)
    return None if text is None else parse_json(text)
