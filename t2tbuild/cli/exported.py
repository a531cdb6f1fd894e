"""An exported file where a command expects a spec: the spec of its model with the data of --data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from t2tbuild.cli.train_options import open_with_options
from t2tbuild.errors import InputError
from t2tbuild.weights.preprocessing import data_fields

if TYPE_CHECKING:
    from t2tbuild.spec import Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.weights.exported import ExportInfo


def open_exported_spec(path: str, info: ExportInfo, overrides: Sequence[str], data: str | None) -> Document[Spec]:
    """Return the spec of a file's model, with its preprocessing and the data of --data, for an evaluation.

    Raises InputError without data, and for a file that does not know its spec.
    """
    if data is None:
        raise InputError(f"{path}: an exported file has no data; name the images to evaluate it on: --data DATA")
    if info.spec is None:
        raise InputError(f"{path}: its metadata have no spec; write the file again with t2tbuild export")
    steps = info.preprocessing
    height, width = steps.image
    if data == "digits" and height != width:
        raise InputError(f"{path}: takes images of {height} x {width} pixels, and the digits are square")
    placeholder = {"kind": "folder", "root": ".", **data_fields(steps)}
    names = {} if info.label_names is None else {"label_names": list(info.label_names)}
    spec = {"version": 1, "model": info.spec | names, "train": {"data": placeholder}}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "spec.yaml"
        file.write_text(json.dumps(spec), encoding="utf-8")
        size = f"train.data.image_size={height if height == width else [height, width]}"
        return open_with_options(str(file), [size, *overrides], data, {}, evaluation=True, quiet=True)
