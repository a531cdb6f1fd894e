"""How much memory there is, and what batch would fit in it."""

import os
import resource
from pathlib import Path

import torch

from t2tbuild.cost.memory import largest_batch
from t2tbuild.dtype import Precision
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import Spec
from t2tbuild.training.distributed import Ranks

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


def smaller_batch(spec: Spec, ranks: Ranks, dtype: torch.dtype) -> str:
    """What to write when a pass has too many images: the most that fit by formula, and half as many at most."""
    recipe = spec.train
    assert recipe is not None
    images = max(1, recipe.batch_size // (ranks.count * recipe.accumulate))
    fit, how = max(1, images // 2), "half as many"
    if isinstance(spec.model, ModelSpec):
        precision = Precision(str(dtype).removeprefix("torch."))
        by_formula = largest_batch(spec.model, memory_of(ranks.device), precision, training=True)
        if by_formula is None:
            return "by formula not even one image of this model fits; a smaller model or image_size may"
        if by_formula < fit:
            fit, how = by_formula, f"{by_formula} by formula"
    passes = -(-images // fit) * recipe.accumulate
    while passes < recipe.batch_size and recipe.batch_size % (ranks.count * passes):
        passes += 1
    total = max(ranks.count, fit * ranks.count * recipe.accumulate)
    return (
        f"{images} images in a pass were too many, {how} should fit: write train.accumulate={passes} for the same "
        f"batch in more passes, or train.batch_size={total}"
    )
