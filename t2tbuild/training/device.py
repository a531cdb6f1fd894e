"""Device and precision of training."""

import torch

from t2tbuild.errors import InputError
from t2tbuild.spec.train import TrainSpec


def pick_device() -> torch.device:
    """Return CUDA if available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products; auto is bfloat16 on a GPU that supports it, else float32.

    Raises InputError when the GPU does not support bfloat16.
    """
    cuda = device.type == "cuda"
    supported = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        return torch.bfloat16 if supported else torch.float32
    if precision == "bfloat16" and cuda and not supported:
        raise InputError("train.precision: this GPU does not support bfloat16; write float16")
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def use_tf32(recipe: TrainSpec) -> None:
    """Allow or forbid TF32, in which a GPU rounds float32 matrix products and convolutions."""
    torch.set_float32_matmul_precision("high" if recipe.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = recipe.tf32
