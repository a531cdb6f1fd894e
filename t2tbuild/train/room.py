"""How much memory there is, and what batch would fit in it."""

import os
import resource
from pathlib import Path

import torch

from t2tbuild.cost.memory import largest_batch
from t2tbuild.precision import Precision
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.tree import Spec

CGROUP = Path("/sys/fs/cgroup/memory.max")


def memory_of(device: torch.device) -> int:
    """Bytes that a process may have on the device: a GPU's own, else the machine's or what this process is allowed."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits += [allowed] * (allowed != resource.RLIM_INFINITY)
    text = CGROUP.read_text().strip() if CGROUP.exists() else ""
    limits += [int(text)] if text.isdigit() else []  # "max" where there is none
    return min(limits)


def peak_memory_so_far(device: torch.device) -> int:
    """The most bytes that have been taken: by tensors on a GPU, by the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def smaller_batch(spec: Spec, images: int, device: torch.device, dtype: torch.dtype) -> str:
    """What to write when `images` in a pass are too many: the most that fit by formula, and half as many at most."""
    assert spec.train is not None
    fit, how = max(1, images // 2), ""
    if isinstance(spec.model, ModelSpec):
        precision = Precision(str(dtype).removeprefix("torch."))
        by_formula = largest_batch(spec.model, memory_of(device), precision, training=True)
        if by_formula is None:
            return "by formula not even one image of this model fits; a smaller model or image_size may"
        fit, how = min(fit, by_formula), "by formula "
    passes = -(-images // fit) * spec.train.accumulate
    while spec.train.batch_size % passes:
        passes += 1
    return (
        f"{images} images in a pass were too many, {how}{fit} should fit: write train.accumulate={passes} for the same "
        f"batch in more passes, or train.batch_size={fit}"
    )
