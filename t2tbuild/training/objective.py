"""Objectives of training: cross-entropy with the labels, and distillation from a teacher."""

import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.spec.distill import Distillation
from t2tbuild.training.data import Data


class CrossEntropy(nn.Module):
    """Cross-entropy with class numbers [B], smoothed, or with distributions [B, classes] of mixed images."""

    def __init__(self, *, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of logits [B, classes] and targets."""
        smoothing = 0.0 if targets.is_floating_point() else self.label_smoothing  # mixup has smoothed these already
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)


class ClassificationTask(nn.Module):
    """Cross-entropy of a model with the labels."""

    def __init__(self, model: nn.Module, *, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.loss = model, CrossEntropy(label_smoothing=label_smoothing)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of images [B, C, height, width] and targets."""
        loss: Tensor = self.loss(self.model(images), targets)
        return loss


class DistillationTask(nn.Module):
    """(1 - w) times the cross-entropy with the labels + w times the distillation loss, by timm's task.

    The distillation loss is the cross-entropy with the teacher's most likely class (DeiT, equation 3), or T^2 times the
    KL divergence of the softened distributions (equation 2). Images are normalised again for a teacher that was trained
    with another mean and std.
    """

    def __init__(
        self, model: nn.Module, teacher: nn.Module, spec: Distillation, data: Data, *, label_smoothing: float
    ) -> None:
        super().__init__()
        from timm.task.distillation import DistillationTeacher
        from timm.task.token_distillation import TokenDistillationTask

        device = next(model.parameters()).device
        self.task = TokenDistillationTask(
            student_model=_TwoTokenStudent(model, data),
            teacher_model=DistillationTeacher(teacher.to(device), device=device),
            criterion=CrossEntropy(label_smoothing=label_smoothing),
            distill_type=spec.loss,
            task_loss_weight=1 - spec.weight,
            temperature=float(spec.temperature),
            device=device,
            verbose=False,
        )
        self.task.teacher.requires_grad_(False)
        self.task.train()

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of images [B, C, height, width] and targets."""
        loss: Tensor = self.task(images, targets)["loss"]
        return loss


class _TwoTokenStudent(nn.Module):
    """A student with the interface of timm's task: it returns the logits of the class and distillation tokens.

    A student with one token returns its logits twice.
    """

    def __init__(self, model: nn.Module, data: Data) -> None:
        super().__init__()
        self.model, self.pretrained_cfg = model, {"mean": data.mean, "std": data.std}

    def set_distilled_training(self, enable: bool = True) -> None:
        """Do nothing: timm's task calls this, and init_model has done it for a student with a second token."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(images)
        return logits if isinstance(logits, tuple) else (logits, logits)
