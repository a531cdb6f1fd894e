"""Which devices there are, and what they are called."""

import os
import platform
from pathlib import Path

import torch

from t2tbuild.errors import InputError


def find_device(name: str | None) -> torch.device:
    """The device of this name: cpu, cuda or cuda:1; without a name, CUDA when there is one, else the CPU.

    Raises InputError when it is not there.
    """
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name is None:
        name = "cuda" if len(there) > 1 else "cpu"
    full = f"cuda:{torch.cuda.current_device()}" if name == "cuda" and len(there) > 1 else name
    if full not in there:
        why = "" if torch.version.cuda else "; this torch was built without CUDA"
        raise InputError(f"--device {name}: is not there; this machine has {', '.join(there)}{why}")
    return torch.device(full)


def require_dtype(device: torch.device, dtype: torch.dtype) -> None:
    """Raises InputError when the device has no arithmetic of its own for `dtype`."""
    if device.type != "cuda" or dtype is not torch.bfloat16:
        return
    with torch.cuda.device(device):
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise InputError(f"--precision bfloat16: {device_name(device)} has none; use float16 or float32")


def device_name(device: torch.device) -> str:
    """What the maker calls it, e.g. NVIDIA A100-SXM4-80GB; of a CPU where Linux tells it, else its architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next((model for model in models if model), platform.processor() or platform.machine())


def use_threads(count: int) -> None:
    """Let torch's operators on the CPU use this many threads. Raises InputError beyond the cores of the machine."""
    cores = os.cpu_count() or count
    if count > cores:
        raise InputError(f"--threads {count}: this machine has {cores} cores")
    torch.set_num_threads(count)
