"""What an export writes. Torch-free, for the command line."""

from enum import StrEnum
from pathlib import Path

from t2tbuild.errors import InputError


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

    def require_suffix(self, out: Path) -> None:
        """Raises InputError when `out` is not named as readers of the format expect."""
        if not out.name.endswith(self.suffix):
            raise InputError(f"--out {out}: must end in {self.suffix} for --format {self}")
