"""Find devices, their names and their number of threads."""

import os
import platform
from pathlib import Path

import torch

from t2tbuild.errors import InputError


def find_device(name: str | None) -> torch.device:
    """Return the device of a name: cpu, cuda or cuda:1. Without a name, return CUDA if it is available, else the CPU.

    Raises InputError if there is no such device.
    """
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name is None:
        name = "cuda" if len(available) > 1 else "cpu"
    full = f"cuda:{torch.cuda.current_device()}" if name == "cuda" and len(available) > 1 else name
    if full not in available:
        reason = "" if torch.version.cuda else "; this torch was built without CUDA"
        raise InputError(f"--device {name}: no such device; this machine has {', '.join(available)}{reason}")
    return torch.device(full)


def require_dtype(device: torch.device, dtype: torch.dtype) -> None:
    """Raise InputError if the device does not support `dtype` natively."""
    if device.type != "cuda" or dtype is not torch.bfloat16:
        return
    with torch.cuda.device(device):
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise InputError(f"--precision bfloat16: {device_name(device)} does not support it; use float16 or float32")


def device_name(device: torch.device) -> str:
    """Return the product name, e.g. NVIDIA A100-SXM4-80GB; for a CPU from /proc/cpuinfo, else its architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next((model for model in models if model), platform.processor() or platform.machine())


def set_threads(count: int) -> None:
    """Set the number of threads of torch's CPU operators. Raises InputError if the machine has fewer cores."""
    cores = os.cpu_count() or count
    if count > cores:
        raise InputError(f"--threads {count}: this machine has {cores} cores")
    torch.set_num_threads(count)
