"""Export formats and the checks of the output path. Torch-free, so that a wrong option fails at once."""

import importlib.util
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.files import is_file
from t2tbuild.spec.catalog import MAX_NAME

FOLDER = {"config.json", "model.safetensors"}  # the files of an exported folder
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPENVINO_WEIGHTS = ".bin"
"""Suffix of the file of weights beside OpenVINO's .xml."""
PACKAGES = {"onnx": ONNX_PACKAGES, "openvino": (*ONNX_PACKAGES, "openvino")}
OTHER_SUFFIXES = "files end in .safetensors, .pt2, .onnx or .xml"


class Format(StrEnum):
    """safetensors: the weights. timm: a folder for its `local-dir:`. torch-export, onnx, openvino: the whole model."""

    SAFETENSORS = "safetensors"
    TIMM = "timm"
    TORCH_EXPORT = "torch-export"
    ONNX = "onnx"
    OPENVINO = "openvino"

    @classmethod
    def of(cls, out: Path) -> "Format":
        """Return the format that the suffix of a file means; safetensors for another one."""
        return next((one for one in cls if one.suffix and out.name.endswith(one.suffix)), cls.SAFETENSORS)

    @property
    def suffix(self) -> str:
        """The suffix that the file's name must have; empty for a folder."""
        suffixes = {"safetensors": ".safetensors", "timm": "", "torch-export": ".pt2", "onnx": ".onnx"}
        return (suffixes | {"openvino": ".xml"})[self]

    @property
    def is_whole_model(self) -> bool:
        """Whether the file runs without t2tbuild and has metadata."""
        return self in (Format.TORCH_EXPORT, Format.ONNX, Format.OPENVINO)

    def require(self, out: Path) -> None:
        """Raise InputError if this format cannot be written to `out`, or if a package is missing.

        An existing folder must be empty or hold only an earlier export.
        """
        if len(out.name.encode()) > MAX_NAME:
            raise InputError(f"--out {out.name[:40]}...: the name is too long")
        if not out.name.endswith(self.suffix):
            raise InputError(f"--out {out}: must end in {self.suffix} for --format {self}; {OTHER_SUFFIXES}")
        if self is not Format.TIMM and out.is_dir():
            raise InputError(f"--out {out}: is a folder; --format {self} writes a file")
        if self is Format.TIMM and out.is_dir():
            others = sorted({path.name for path in out.iterdir()} - FOLDER)
            if others:
                raise InputError(f"--out {out}: holds {', '.join(others[:5])}; name a new folder or an exported one")
        if self is Format.TIMM and out.is_file():
            raise InputError(f"--out {out}: is a file; --format timm writes a folder")
        self.require_packages(f"--format {self}")

    def require_packages(self, reason: str) -> None:
        """Raise InputError, which begins with `reason`, unless the packages that write and run it are installed."""
        missing = [name for name in PACKAGES.get(self, ()) if importlib.util.find_spec(name) is None]
        if missing:
            extras = "onnx,openvino" if self is Format.OPENVINO else "onnx"
            raise InputError(f"{reason} needs {', '.join(missing)}: pip install 't2tbuild[{extras}]'")

    def require_option(self, option: str, formats: Iterable["Format"]) -> None:
        """Raise InputError where an option is for other formats than this one."""
        if self not in formats:
            raise InputError(f"{option} is for --format {' or '.join(formats)}, not {self}; leave it out")

    def require_new(self, out: Path, *, force: bool) -> None:
        """Raise InputError if `out` exists already, unless `force` is given; an empty folder is new.

        For OpenVINO the file of weights beside it too.
        """
        beside = [out.with_suffix(OPENVINO_WEIGHTS)] if self is Format.OPENVINO else []
        for path in (out, *beside):
            written = any(path.iterdir()) if path.is_dir() else is_file(path)
            if written and not force:
                which = "" if path == out else f"{path}, which holds its weights, "
                raise InputError(
                    f"--out {out}: {which}exists already; choose another name, or add --force to replace it"
                )


def export_size(path: Path) -> int:
    """Return the bytes of an exported file or folder, with the file of weights beside an .xml."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    beside = path.with_suffix(OPENVINO_WEIGHTS)
    with_weights = path.suffix == Format.OPENVINO.suffix and is_file(beside)
    return path.stat().st_size + (beside.stat().st_size if with_weights else 0)
