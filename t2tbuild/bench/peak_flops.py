"""Measure the peak FLOP/s of a device by large matrix products."""

from collections.abc import Mapping

import torch

from t2tbuild.bench.timing import Step, Timing, time_step

SIZES = {"cpu": (512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192)}
MAX_SECONDS = 0.02  # if a product takes longer, no larger one is timed; the next has eight times the work


def matmul_steps(device: torch.device, dtype: torch.dtype) -> dict[int, Step]:
    """Return products of two random square matrices in `dtype` by their size n, to be timed together with the models.

    Float32 follows torch.get_float32_matmul_precision(), as the models do.
    """
    steps: dict[int, Step] = {}
    for size in SIZES[device.type]:
        steps[size] = step = _matmul_step(size, device, dtype)
        step()
        if time_step(step, device) > MAX_SECONDS:
            break
    return steps


def peak_flops(speeds: Mapping[int, Timing]) -> float:
    """Return the FLOP/s of the fastest size at its median time, with two FLOPs per multiply-add: 2 n^3 / t.

    >>> peak_flops({10: Timing(1e-6, 1e-6, 1e-6, 1), 100: Timing(1e-3, 1e-3, 1e-3, 1)})
    2000000000.0
    """
    return max(2 * size**3 / speed.median for size, speed in speeds.items())


def _matmul_step(size: int, device: torch.device, dtype: torch.dtype) -> Step:
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)

    def step() -> None:
        with torch.inference_mode():
            torch.mm(left, right, out=out)

    return step
