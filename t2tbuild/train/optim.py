"""Optimiser and schedule, both timm's."""

from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn
from torch.optim import Optimizer

from t2tbuild.spec.train import TrainSpec


def make_optimizer(model: nn.Module, *, lr: float, weight_decay: float) -> Optimizer:
    """AdamW; biases, norms and what the model's `no_weight_decay` names are not decayed."""
    optimizer: Optimizer = create_optimizer_v2(model, opt="adamw", lr=lr, weight_decay=weight_decay)
    return optimizer


def make_schedule(optimizer: Optimizer, spec: TrainSpec, steps_in_epoch: int) -> CosineLRScheduler:
    """Linear warm-up from min_lr, then a cosine down to min_lr, set anew at every step."""
    return CosineLRScheduler(
        optimizer,
        t_initial=spec.epochs * steps_in_epoch,
        lr_min=spec.min_lr,
        warmup_t=round(spec.warmup * steps_in_epoch),
        warmup_lr_init=spec.min_lr,
        warmup_prefix=False,
        t_in_epochs=False,
    )
