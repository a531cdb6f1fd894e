"""The steps that are benchmarked: one of inference, one of training.

For a dtype below float32, weights stay float32 and autocast chooses the operations, as in the trainer.
"""

import torch
from torch import Tensor, nn

from t2tbuild.bench.timing import Step
from t2tbuild.training.loop import create_grad_scaler, train_step
from t2tbuild.training.objective import ClassificationTask


def inference_step(model: nn.Module, images: Tensor, dtype: torch.dtype) -> Step:
    """Return a step that runs the model in eval mode under inference_mode on images [B, C, height, width]."""
    model.eval()

    def step() -> None:
        autocast = torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not torch.float32)
        with torch.inference_mode(), autocast:
            model(images)

    return step


def training_step(
    model: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, dtype: torch.dtype
) -> Step:
    """Return the trainer's step: forward, cross-entropy with labels [B], backward and update; it keeps no gradients."""
    objective = ClassificationTask(model.train(), label_smoothing=0.0)
    scaler = create_grad_scaler(images.device, dtype)

    def step() -> None:
        train_step(objective, model, optimizer, images, labels, dtype=dtype, scaler=scaler)

    return step
