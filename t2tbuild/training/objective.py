"""What a step makes smaller: the classification loss, with a teacher's if there is one."""

import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.spec.distill import Distillation
from t2tbuild.training.data import Data


class CrossEntropy(nn.Module):
    """Cross-entropy of logits with class numbers [B], smoothed, or with distributions [B, classes] of mixed images."""

    def __init__(self, *, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits [B, classes] and targets -> the mean loss, a scalar."""
        smoothing = 0.0 if targets.is_floating_point() else self.label_smoothing  # mixed targets are smooth already
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)


class Classification(nn.Module):
    """A model's loss with the labels."""

    def __init__(self, model: nn.Module, *, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.loss = model, CrossEntropy(label_smoothing=label_smoothing)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Images [B, C, height, width] and targets -> the mean loss, a scalar."""
        loss: Tensor = self.loss(self.model(images), targets)
        return loss


class Distilled(nn.Module):
    """(1 - w) cross-entropy with the labels + w the teacher's loss, by timm's task for either token.

    The teacher's loss is the cross-entropy with its likeliest class (equation 3 of DeiT), or T^2 KL of the softened
    distributions (equation 2). Images are normalised anew for a teacher that was trained with another mean.
    """

    def __init__(
        self, model: nn.Module, teacher: nn.Module, spec: Distillation, data: Data, *, label_smoothing: float
    ) -> None:
        super().__init__()
        from timm.task.distillation import DistillationTeacher
        from timm.task.token_distillation import TokenDistillationTask

        device = next(model.parameters()).device
        self.task = TokenDistillationTask(
            student_model=_BothTokens(model, data),
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
        """Images [B, C, height, width] and targets -> the mean loss, a scalar."""
        loss: Tensor = self.task(images, targets)["loss"]
        return loss


class _BothTokens(nn.Module):
    """A student as timm's task wants it: logits of the class token and of the one that learns from the teacher.

    A student with one token gives its logits for both.
    """

    def __init__(self, model: nn.Module, data: Data) -> None:
        super().__init__()
        self.model, self.pretrained_cfg = model, {"mean": data.mean, "std": data.std}

    def set_distilled_training(self, enable: bool = True) -> None:
        """What timm's task asks of a student; the trainer has done it, where there is a second token."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(images)
        return found if isinstance(found, tuple) else (found, found)
