"""What an export writes, and where it may. Torch-free, so that a mistake is told at once."""

import importlib.util
from enum import StrEnum
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.spec.catalog import MAX_NAME

FOLDER = {"config.json", "model.safetensors"}  # what an exported folder holds
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class Format(StrEnum):
    """safetensors: weights; timm: a folder for its local-dir; torch-export and onnx: the whole model."""

    SAFETENSORS = "safetensors"
    TIMM = "timm"
    TORCH_EXPORT = "torch-export"
    ONNX = "onnx"

    @property
    def suffix(self) -> str:
        """How the file's name must end, since readers go by it; a folder's may end as it likes."""
        return {"safetensors": ".safetensors", "timm": "", "torch-export": ".pt2", "onnx": ".onnx"}[self]

    def require(self, out: Path) -> None:
        """Raises InputError when `out` is no place for this format, or a package that writes it is missing.

        A folder is written into only if it is empty or holds nothing but an earlier export.
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
