"""What a step computes in, and on which device."""

import torch

from t2tbuild.errors import InputError
from t2tbuild.spec.train import TrainSpec


def pick_device() -> torch.device:
    """CUDA when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type of matrix products; auto is bfloat16 on a GPU that has it, else float32.

    Raises InputError when the GPU has no bfloat16.
    """
    cuda = device.type == "cuda"
    native = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        return torch.bfloat16 if native else torch.float32
    if precision == "bfloat16" and cuda and not native:
        raise InputError("train.precision: this GPU has no bfloat16; write float16")
    found: torch.dtype = getattr(torch, precision)
    return found


def use_tf32(recipe: TrainSpec) -> None:
    """Let a GPU round float32 matrix products and convolutions, or not."""
    torch.set_float32_matmul_precision("high" if recipe.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = recipe.tf32
