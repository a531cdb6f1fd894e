"""What a step takes of a device: its memory at the peak."""

import itertools
import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd.profiler import profile


def peak_memory(step: Callable[[], object], device: torch.device) -> int:
    """Bytes at the peak of `step`, above what was alive before it; `storage_bytes` of the weights come on top.

    The step is run twice and the second run is the one that is told: what the first leaves behind (gradients, the
    optimiser's state) is alive in every run after it, so it counts.

    On CUDA the figure is that of torch's caching allocator, whose blocks are multiples of 512 bytes; the context, and
    what the allocator keeps without using it, are not in it. On the CPU it is exact to the byte, of all tensors that
    the calling thread and the autograd engine make; what a thread that the step starts makes is not seen, nor is what
    oneDNN keeps for itself, nor that the step frees a tensor older than the call, so that the figure can be too high.
    """
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
    """Bytes that tensors hold together; what several of them share counts once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


def allocations(step: Callable[[], object]) -> list[int]:
    """Bytes of what torch's CPU allocator gave, below zero where it took back, in the order of time.

    The older profiler suffices, without Kineto, which takes seconds to start. Its library still logs each start and
    stop to stderr, unless it is told not to before its first line.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(profile_memory=True, use_kineto=False) as recorded:
        step()
    assert recorded.kineto_results is not None
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
