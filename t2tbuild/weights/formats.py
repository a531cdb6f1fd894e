"""Export formats and the checks of the output path. Torch-free, so that a wrong option fails at once."""

import importlib.util
from enum import StrEnum
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.spec.catalog import MAX_NAME

FOLDER = {"config.json", "model.safetensors"}  # the files of an exported folder
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class Format(StrEnum):
    """safetensors: the weights. timm: a folder for its `local-dir:`. torch-export and onnx: the whole model."""

    SAFETENSORS = "safetensors"
    TIMM = "timm"
    TORCH_EXPORT = "torch-export"
    ONNX = "onnx"

    @classmethod
    def of(cls, out: Path) -> "Format":
        """Return the format that the suffix of a file means; safetensors for another one."""
        return next((one for one in cls if one.suffix and out.name.endswith(one.suffix)), cls.SAFETENSORS)

    @property
    def suffix(self) -> str:
        """The suffix that the file's name must have; empty for a folder."""
        return {"safetensors": ".safetensors", "timm": "", "torch-export": ".pt2", "onnx": ".onnx"}[self]

    def require(self, out: Path) -> None:
        """Raise InputError if this format cannot be written to `out`, or if a package is missing.

        An existing folder must be empty or hold only an earlier export.
        """
        if len(out.name.encode()) > MAX_NAME:
            raise InputError(f"--out {out.name[:40]}...: the name is too long")
        if not out.name.endswith(self.suffix):
            raise InputError(f"--out {out}: must end in {self.suffix} for --format {self}")
        if self is not Format.TIMM and out.is_dir():
            raise InputError(f"--out {out}: is a folder; --format {self} writes a file")
        if self is Format.TIMM and out.is_dir():
            others = sorted({path.name for path in out.iterdir()} - FOLDER)
            if others:
                raise InputError(f"--out {out}: holds {', '.join(others[:5])}; name a new folder or an exported one")
        if self is Format.TIMM and out.is_file():
            raise InputError(f"--out {out}: is a file; --format timm writes a folder")
        missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
        if self is Format.ONNX and missing:
            raise InputError(f"--format onnx needs {', '.join(missing)}: pip install 't2tbuild[onnx]'")
