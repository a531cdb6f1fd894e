"""The two steps of a model that a person waits for: one of inference, one of training.

Below float32 the weights stay float32 and autocast chooses what runs in less, as the trainer does it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.bench.timing import Step


def inference_step(model: nn.Module, images: Tensor, dtype: torch.dtype) -> Step:
    """A forward pass in eval mode under inference_mode: images [B, C, height, width] to logits [B, classes]."""
    model.eval()

    def step() -> None:
        with torch.inference_mode(), _autocast(images.device, dtype):
            model(images)

    return step


def training_step(
    model: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, dtype: torch.dtype
) -> Step:
    """Forward in training mode, cross-entropy with labels [B], backward and update; gradients are dropped after it."""
    model.train()

    def step() -> None:
        with _autocast(images.device, dtype):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def _autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)
