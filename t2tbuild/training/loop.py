"""A training step, and the errors of one: a loss that is not finite, a full memory."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from t2tbuild.errors import TrainingError, is_memory_full

CHECK_EVERY = 10  # steps between checks of the loss, each of which waits for the device

Objective = Callable[[Tensor, Tensor], Tensor]
"""A function of images [B, C, height, width] and targets, [B] or [B, classes], to the mean loss."""


@contextmanager
def catch_out_of_memory(hint: Callable[[], str]) -> Iterator[None]:
    """Turn an out-of-memory error, which torch reports in three ways, into a TrainingError with a hint."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_memory_full(error):
            raise TrainingError(f"out of memory; {hint()}") from None
        raise


def create_grad_scaler(device: torch.device, dtype: torch.dtype) -> torch.amp.GradScaler | None:
    """Return the gradient scaler that float16 needs, None for other dtypes."""
    return torch.amp.GradScaler(device.type) if dtype is torch.float16 else None


def train_step(
    objective: Objective,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    *,
    dtype: torch.dtype,
    scaler: torch.amp.GradScaler | None = None,
    accumulate: int = 1,
    clip_grad: float | None = None,
) -> Tensor:
    """Run forward, backward and update, in `accumulate` passes over the batch. `objective` trains `model`.

    Returns the mean loss as a tensor, so that nothing waits for the device.
    """
    total = torch.zeros((), device=images.device)
    passes = list(zip(images.chunk(accumulate), targets.chunk(accumulate), strict=True))
    for index, (some_images, some_targets) in enumerate(passes):
        with _no_gradient_sync(model) if index + 1 < len(passes) else nullcontext():
            with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not torch.float32):
                loss = objective(some_images, some_targets) * (len(some_images) / len(images))
            (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    if scaler is not None:
        scaler.unscale_(optimizer)
    if clip_grad is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip_grad)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    optimizer.zero_grad()
    return total


@contextmanager
def _no_gradient_sync(model: nn.Module) -> Iterator[None]:
    """Skip the averaging of gradients over ranks, before the last pass."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        yield


def require_finite(loss: float, step: int) -> None:
    """Raise TrainingError when a loss is not finite."""
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is {loss} at step {step}; a lower lr or a smaller clip_grad may help")
