"""What a device can do at best: large matrix products, the yardstick for what a model makes of it."""

from collections.abc import Mapping

import torch

from t2tbuild.bench.timing import Speed, Step, seconds_of

SIZES = {"cpu": (512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192)}
LONG = 0.02  # seconds of a product beyond which a larger one, of eight times the work, is not tried


def matmul_steps(device: torch.device, dtype: torch.dtype) -> dict[int, Step]:
    """Products of two square matrices of normal numbers in `dtype`, by their size n; they are timed among the models.

    Float32 is multiplied as torch.get_float32_matmul_precision() says, as the models are.
    """
    steps: dict[int, Step] = {}
    for size in SIZES[device.type]:
        steps[size] = step = _product(size, device, dtype)
        step()
        if seconds_of(step, device) > LONG:
            break
    return steps


def matmul_peak(speeds: Mapping[int, Speed]) -> float:
    """FLOP/s of the best size at its median, a multiply-add being two: 2 n^3 / t.

    >>> matmul_peak({10: Speed(1e-6, 1e-6, 1e-6, 1), 100: Speed(1e-3, 1e-3, 1e-3, 1)})
    2000000000.0
    """
    return max(2 * size**3 / speed.median for size, speed in speeds.items())


def _product(size: int, device: torch.device, dtype: torch.dtype) -> Step:
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)

    def step() -> None:
        with torch.inference_mode():
            torch.mm(left, right, out=out)

    return step
