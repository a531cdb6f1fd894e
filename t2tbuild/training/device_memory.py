"""Memory of the device, and the batch size that fits in it."""

import resource

import torch

from t2tbuild.cost.memory import largest_batch
from t2tbuild.dtype import Precision
from t2tbuild.machine_memory import machine_memory
from t2tbuild.spec.extension.registry import without_forward
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import Spec
from t2tbuild.spec.units import plural
from t2tbuild.training.distributed import DistributedContext


def total_memory(device: torch.device) -> int:
    """Return the bytes of a GPU, else of the machine, or this process's limit (ulimit, cgroup) if it is lower."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machine_memory()


def max_memory_used(device: torch.device) -> int:
    """Return the peak bytes so far: of tensors on a GPU, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def suggest_smaller_batch(spec: Spec, distributed: DistributedContext, dtype: torch.dtype) -> str:
    """Return what to write when a pass has too many images: the estimated number that fits, at most half as many."""
    recipe = spec.train
    assert recipe is not None
    images = max(1, recipe.batch_size // (distributed.world_size * recipe.accumulate))
    fitting, basis = max(1, images // 2), "half as many"
    if isinstance(spec.model, ModelSpec) and not without_forward(spec.model):
        precision = Precision(str(dtype).removeprefix("torch."))
        predicted = largest_batch(spec.model, total_memory(distributed.device), precision, training=True)
        if predicted is None:
            return "not even one image is estimated to fit; write a smaller model or image_size"
        if predicted < fitting:
            fitting, basis = predicted, f"an estimated {predicted}"
    passes = -(-images // fitting) * recipe.accumulate
    while passes < recipe.batch_size and recipe.batch_size % (distributed.world_size * passes):
        passes += 1
    batch_size = max(distributed.world_size, fitting * distributed.world_size * recipe.accumulate)
    return (
        f"a pass of {plural(images, 'image')} was too large, {basis} should fit: write train.accumulate={passes} for "
        f"the same batch in more passes, or train.batch_size={batch_size}"
    )
