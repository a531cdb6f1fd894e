"""What learns: a model with its optimiser, schedule, average and objective, one update at a time."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from t2tbuild.errors import FieldError, TrainingError
from t2tbuild.spec.root import Spec
from t2tbuild.training.checkpoint import Checkpoint
from t2tbuild.training.data import Data
from t2tbuild.training.device import pick_dtype, use_tf32
from t2tbuild.training.distributed import Ranks
from t2tbuild.training.init_model import build_for_training
from t2tbuild.training.loop import train_step
from t2tbuild.training.objective import Classification, Distilled
from t2tbuild.training.optim import make_optimizer, make_schedule, still_norms
from t2tbuild.training.reports import Listener
from t2tbuild.training.sampler import EpochSampler, fold_in
from t2tbuild.training.teacher import load_teacher


class TrainState:
    """One rank's model and all that changes with it. What is random in an update is a function of seed and place."""

    def __init__(
        self,
        spec: Spec,
        data: Data,
        order: EpochSampler,
        ranks: Ranks,
        listener: Listener,
        checkpoint: Checkpoint | None,
    ) -> None:
        assert spec.train is not None
        self.spec, self.recipe, self.order, self.ranks = spec, spec.train, order, ranks
        self.dtype = pick_dtype(self.recipe.precision, ranks.device)
        use_tf32(self.recipe)
        start = spec if checkpoint is None else spec.model_copy(update={"weights": None})
        self.model = build_for_training(start, listener).to(ranks.device)
        if self.recipe.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.averaged = self._average()
        self.optimizer = make_optimizer(
            self.model,
            lr=self.recipe.lr,
            weight_decay=self.recipe.weight_decay,
            kind=self.recipe.optimizer,
            lr_scale=self.recipe.lr_scale,
            layer_decay=self.recipe.layer_decay,
        )
        self.schedule = make_schedule(self.optimizer, self.recipe, order.steps)
        self.scaler = torch.amp.GradScaler(ranks.device.type) if self.dtype is torch.float16 else None
        self.mixup = self._mixup()
        if checkpoint is not None:
            self._restore(checkpoint)
        if self.recipe.compile:
            self.model.compile()
        self.trained = ranks.together(self.model)
        self.trained.train()
        still_norms(self.model)
        self.objective = self._objective(data)

    @property
    def kept(self) -> nn.Module:
        """The model that is evaluated: the averaged one, where the recipe averages."""
        kept: nn.Module = self.model if self.averaged is None else self.averaged.module
        return kept

    @property
    def lr(self) -> float:
        """The largest learning rate of a part in the last update."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))

    def learn(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> Tensor:
        """One update; gives the mean loss of this rank's images, a scalar on the device."""
        place = fold_in(self.recipe.seed, epoch, step, self.ranks.rank)
        torch.manual_seed(place)
        self.schedule.step_update(epoch * self.order.steps + step)
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.mixup is not None:
            np.random.seed(place % 2**32)  # timm's Mixup draws from numpy's global generator
            images, labels = self.mixup(images, labels)
        loss = train_step(
            self.objective,
            self.trained,
            self.optimizer,
            images,
            labels,
            dtype=self.dtype,
            scaler=self.scaler,
            accumulate=self.recipe.accumulate,
            clip_grad=self.recipe.clip_grad,
        )
        if self.averaged is not None:
            self.averaged.update(self.model)
        return loss

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the weights."""
        state = {"optimizer": self.optimizer.state_dict()}
        return state if self.scaler is None else state | {"scaler": self.scaler.state_dict()}

    def require_finite(self, step: int) -> None:
        """Raises TrainingError when a weight is not finite, so that such a state is never saved."""
        norms = torch._foreach_norm([value for value in self.model.state_dict().values() if value.is_floating_point()])
        if not torch.stack([norm.float() for norm in norms]).isfinite().all():
            raise TrainingError(f"the weights are not finite at step {step}; a lower lr may help, or clipped gradients")

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.model)
        if self.averaged is not None and checkpoint.averaged is not None:
            self.averaged.module.load_state_dict(checkpoint.averaged)
        self.optimizer.load_state_dict(checkpoint.state["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(checkpoint.state["scaler"])

    def _average(self) -> Any:
        if self.recipe.ema is None:
            return None
        from timm.utils.model_ema import ModelEmaV3

        return ModelEmaV3(self.model, decay=float(self.recipe.ema))

    def _mixup(self) -> Any:
        if self.recipe.mixup is None:
            return None
        if self.order.share % 2:
            message = f"mixup pairs the images of a device, and each has {self.order.share} of a batch"
            raise FieldError(("train", "batch_size"), "batch-size", message, "write one that makes them even")
        from timm.data.mixup import Mixup

        return Mixup(  # type: ignore[no-untyped-call]
            mixup_alpha=self.recipe.mixup.mixup,
            cutmix_alpha=self.recipe.mixup.cutmix,
            prob=self.recipe.mixup.prob,
            switch_prob=self.recipe.mixup.switch_prob,
            label_smoothing=self.recipe.label_smoothing,
            num_classes=self.spec.model.num_classes,
        )

    def _objective(self, data: Data) -> Classification | Distilled:
        smoothing, distill = float(self.recipe.label_smoothing), self.recipe.distill
        if distill is None:
            return Classification(self.trained, label_smoothing=smoothing)
        teacher = load_teacher(distill, self.spec.model, data)
        return Distilled(self.trained, teacher, distill, data, label_smoothing=smoothing)
