"""The inner loop: a training step, an evaluation."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.errors import TrainingError, is_memory_full
from t2tbuild.spec.train import TrainSpec
from t2tbuild.training.data import Data, SplitName
from t2tbuild.training.distributed import Ranks

CHECK_EVERY = 10  # steps between looks at the loss, each of which waits for the device
TOP = 5
EVALUATION_BATCH = 256

Objective = Callable[[Tensor, Tensor], Tensor]
"""Images [B, C, height, width] and targets, [B] or [B, classes], to the mean loss."""


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy (nats) and accuracies (0 to 1) over a split.

    `top5` counts an image as right when its class is among the five likeliest; `per_class` has the accuracy of each
    class, and None for a class without images.
    """

    loss: float
    accuracy: float
    top5: float
    per_class: tuple[float | None, ...]


@contextmanager
def memory_errors(hint: Callable[[], str]) -> Iterator[None]:
    """Turn a full memory, which torch reports in three ways, into a TrainingError with a hint."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_memory_full(error):
            raise TrainingError(f"out of memory; {hint()}") from None
        raise


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
    """Forward, backward and update, in `accumulate` passes over the batch. `model` is what the objective trains.

    Returns the mean loss as a tensor, so that the device need not be waited for.
    """
    total = torch.zeros((), device=images.device)
    parts = list(zip(images.chunk(accumulate), targets.chunk(accumulate), strict=True))
    for index, (some, wanted) in enumerate(parts):
        with _silent(model) if index + 1 < len(parts) else nullcontext():
            with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not torch.float32):
                loss = objective(some, wanted) * (len(some) / len(images))
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
def _silent(model: nn.Module) -> Iterator[None]:
    """Passes after which ranks do not average gradients yet."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        yield


def evaluation_batch(recipe: TrainSpec) -> int:
    """Images of a pass in evaluation, which keeps no activations: four times those of a training pass, 256 at most."""
    return min(EVALUATION_BATCH, 4 * recipe.batch_size // recipe.accumulate)


def require_finite(loss: float, step: int) -> None:
    """Raises TrainingError when a loss is not a finite number."""
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is {loss} at step {step}; a lower lr may help, or clipped gradients")


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Data,
    split: SplitName,
    ranks: Ranks,
    dtype: torch.dtype,
    batch_size: int = EVALUATION_BATCH,
    heard: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate in eval mode, each rank on its share; every module is left in the mode it was in.

    `heard` is told after each batch how many images this rank has done.
    """
    modes, done = {module: module.training for module in model.modules()}, 0
    model.eval()
    loss, top5 = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    right, seen = torch.zeros(2, data.num_classes, dtype=torch.float64, device=ranks.device)
    for images, labels in data.evaluation(split, rank=ranks.rank, ranks=ranks.count, batch_size=batch_size):
        with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            logits = model(images).float()
        loss += F.cross_entropy(logits, labels, reduction="sum")
        likeliest = logits.topk(min(TOP, logits.shape[1])).indices
        top5 += (likeliest == labels[:, None]).sum()
        seen.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float64))
        right.index_add_(0, labels, (likeliest[:, 0] == labels).double())
        done += len(labels)
        if heard is not None:
            heard(done)
    for module, mode in modes.items():
        module.training = mode
    summed = ranks.sum([loss.item(), top5.item(), *right.tolist(), *seen.tolist()])
    classes, images_seen = data.num_classes, sum(summed[2 + data.num_classes :])
    rights, counts = summed[2 : 2 + classes], summed[2 + classes :]
    return Evaluation(
        loss=summed[0] / images_seen,
        accuracy=sum(rights) / images_seen,
        top5=summed[1] / images_seen,
        per_class=tuple(got / count if count else None for got, count in zip(rights, counts, strict=True)),
    )
