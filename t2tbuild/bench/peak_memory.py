"""Measure the peak memory of a step."""

import gc
import itertools
import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd.profiler import profile


def peak_memory(step: Callable[[], object], device: torch.device) -> int:
    """Return the peak memory of `step` in bytes, above what was alive before it; the weights are not included.

    The step runs twice and the second run is measured. What the first run leaves behind (gradients, the optimiser's
    state) is alive in every later run, so it counts.

    On CUDA this is the memory of torch's caching allocator, in blocks of 512 bytes, without the context and without
    unused reserved memory. On the CPU it is exact for all tensors of the calling thread and the autograd engine. It
    does not include tensors of threads that the step starts, or oneDNN's own buffers. If the step frees a tensor that
    is older than the call, the result is too high.

    Garbage of before is collected first: freed during the step, it would be taken for memory of the step.
    """
    gc.collect()
    match device.type:
        case "cuda":
            before = torch.cuda.memory_allocated(device)
            step()
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            step()
            torch.cuda.synchronize(device)
            return torch.cuda.max_memory_allocated(device) - before
        case "cpu":
            left = sum(allocations(step))
            return left + max(itertools.accumulate(allocations(step), initial=0))
        case other:
            raise NotImplementedError(f"peak memory on {other}")


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the total bytes of tensors; storage that several of them share counts once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


def allocations(step: Callable[[], object]) -> list[int]:
    """Return the bytes that torch's CPU allocator allocates during a step, in order of time; frees are negative.

    Uses the profiler without Kineto, which takes seconds to start. Its library logs each start and stop to stderr,
    unless the log level is set before its first message.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(profile_memory=True, use_kineto=False) as recorded:
        step()
    assert recorded.kineto_results is not None
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
