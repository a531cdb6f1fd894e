"""Device and precision of training."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from t2tbuild.errors import InputError
from t2tbuild.spec.train import TrainSpec
from t2tbuild.training.device_setting import DEVICE_VARIABLE, device_setting


def pick_device(name: str | None = None) -> torch.device:
    """Return the device of a name: cpu, cuda, cuda:N or mps; without a name CUDA if available, else the CPU.

    The variable T2TBUILD_DEVICE replaces a name that is not given. cuda:N becomes torch's current GPU.

    Raises InputError for an unknown device, and for one that this machine lacks.
    """
    name = device_setting(name)
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if re.fullmatch("cpu|cuda|cuda:[0-9]{1,3}|mps", name) is None:
        raise InputError(f"device {name!r:.40}: must be cpu, cuda, cuda:N (a GPU by its number from 0) or mps")
    device = torch.device(name)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device mps: needs a Mac with an Apple GPU and a torch built for it; write cpu")
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise InputError(f"device {name}: torch finds no NVIDIA or AMD GPU on this machine; write cpu")
    if device.index is not None:
        if device.index >= count:
            names = ", ".join(f"cuda:{number}" for number in range(count))
            raise InputError(f"device {name}: this machine has {names}")
        torch.cuda.set_device(device)
    return device


@contextmanager
def default_device(name: str | None) -> Iterator[None]:
    """Within this context, and in the processes started in it, `name` is the device where none is named."""
    before = os.environ.get(DEVICE_VARIABLE)
    if name is not None:
        os.environ[DEVICE_VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(DEVICE_VARIABLE, None)
        if before is not None:
            os.environ[DEVICE_VARIABLE] = before


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of sums on a device: float64, or float32 on mps, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


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
