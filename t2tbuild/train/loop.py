"""The inner loop: a training step, an evaluation."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.errors import TrainingError, is_memory_full
from t2tbuild.train.data import Split

EVALUATION_BATCH = 256
CHECK_EVERY = 10  # steps between looks at the loss, each of which waits for the device


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy (nats) and top-1 accuracy (0 to 1) over a split."""

    loss: float
    accuracy: float


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn a full memory, which torch reports in three ways, into a TrainingError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_memory_full(error):
            raise TrainingError("out of memory; a smaller batch_size or image_size may fit") from error
        raise


def pick_device() -> torch.device:
    """CUDA when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 autocast on CUDA, float32 elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    clip_grad: float | None = None,
) -> Tensor:
    """One forward, backward and update. Returns the loss as a tensor, so that the device need not be waited for."""
    with autocast(images.device):
        loss = F.cross_entropy(model(images), labels, label_smoothing=label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip_grad is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip_grad)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def require_finite(loss: float, step: int) -> None:
    """Raises TrainingError when a loss is not a finite number."""
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is {loss} at step {step}; a lower lr may help, or clipped gradients")


@torch.no_grad()
def evaluate(model: nn.Module, split: Split) -> Evaluation:
    """Evaluate in eval mode; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    loss, correct = 0.0, 0
    for start in range(0, len(split), EVALUATION_BATCH):
        images, labels = (whole[start : start + EVALUATION_BATCH] for whole in (split.images, split.labels))
        with autocast(images.device):
            logits = model(images).float()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(dim=1) == labels).sum().item())
    model.train(was_training)
    return Evaluation(loss / len(split), correct / len(split))
