"""The training state of one rank: model, optimiser, scheduler, EMA and objective, and one update of them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from t2tbuild.errors import FieldError, TrainingError, is_memory_full
from t2tbuild.spec.root import Spec
from t2tbuild.training.checkpoint import Checkpoint
from t2tbuild.training.data import Data
from t2tbuild.training.device import pick_dtype, use_tf32
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.ema import averaged_model, create_ema
from t2tbuild.training.init_model import init_model
from t2tbuild.training.loop import create_grad_scaler, train_step
from t2tbuild.training.objective import ClassificationTask, DistillationTask
from t2tbuild.training.optim import freeze_batch_norm_stats, make_optimizer, make_scheduler
from t2tbuild.training.reports import Listener
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.training.seeds import fold_in
from t2tbuild.training.teacher import load_teacher


class TrainState:
    """One rank's model and everything that changes with it; an update's randomness is a function of (seed, step)."""

    def __init__(
        self,
        spec: Spec,
        data: Data,
        sampler: EpochSampler,
        distributed: DistributedContext,
        listener: Listener,
        checkpoint: Checkpoint | None,
    ) -> None:
        assert spec.train is not None
        self.spec, self.recipe, self.sampler, self.distributed = spec, spec.train, sampler, distributed
        self.dtype = pick_dtype(self.recipe.precision, distributed.device)
        use_tf32(self.recipe)
        initial = spec if checkpoint is None else spec.model_copy(update={"weights": None})
        self.model = init_model(initial, listener).to(distributed.device)
        if self.recipe.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.ema = create_ema(self.model, self.recipe.ema)
        self.optimizer = make_optimizer(
            self.model,
            lr=self.recipe.lr,
            weight_decay=self.recipe.weight_decay,
            kind=self.recipe.optimizer,
            lr_scale=self.recipe.lr_scale,
            layer_decay=self.recipe.layer_decay,
        )
        self.scheduler = make_scheduler(self.optimizer, self.recipe, sampler.steps_per_epoch)
        self.scaler = create_grad_scaler(distributed.device, self.dtype)
        self.mixup = self._create_mixup()
        if checkpoint is not None:
            self._load_checkpoint(checkpoint)
        if self.recipe.compile:
            self.model.compile()
        self.ddp_model = distributed.wrap_ddp(self.model)
        self.ddp_model.train()
        freeze_batch_norm_stats(self.model)
        self.objective = self._create_objective(data, listener)

    @property
    def eval_model(self) -> nn.Module:
        """The model to evaluate: the averaged one, where the recipe averages."""
        return averaged_model(self.model, self.ema)

    @property
    def lr(self) -> float:
        """The largest learning rate of a part in the last update."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))

    def update(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> Tensor:
        """Run one update and return the mean loss of this rank's images, a scalar on the device."""
        seed = fold_in(self.recipe.seed, epoch, step, self.distributed.rank)
        torch.manual_seed(seed)
        self.scheduler.step_update(epoch * self.sampler.steps_per_epoch + step)
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.mixup is not None:
            np.random.seed(seed % 2**32)  # timm's Mixup draws from numpy's global generator
            images, labels = self.mixup(images, labels)
        loss = train_step(
            self.objective,
            self.ddp_model,
            self.optimizer,
            images,
            labels,
            dtype=self.dtype,
            scaler=self.scaler,
            accumulate=self.recipe.accumulate,
            clip_grad=self.recipe.clip_grad,
        )
        if self.ema is not None:
            self.ema.update(self.model)
        return loss

    def optimizer_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds beside the weights: the states of the optimiser and the gradient scaler."""
        state = {"optimizer": self.optimizer.state_dict()}
        return state if self.scaler is None else state | {"scaler": self.scaler.state_dict()}

    def require_finite(self, step: int) -> None:
        """Raise TrainingError when a weight is not finite, so that such a state is never saved."""
        weights = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        if not nn.utils.get_total_norm(weights, norm_type=torch.inf).isfinite():
            raise TrainingError(
                f"the weights are not finite at step {step}; a lower lr or a smaller clip_grad may help"
            )

    def _load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint. Raises TrainingError where it is of another model or optimiser."""
        try:
            self.model.load_state_dict(checkpoint.model)
            if self.ema is not None and checkpoint.ema is not None:
                self.ema.module.load_state_dict(checkpoint.ema)
            self.optimizer.load_state_dict(checkpoint.state["optimizer"])
            if self.scaler is not None:
                self.scaler.load_state_dict(checkpoint.state["scaler"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            if is_memory_full(error):
                raise
            reason = str(error).strip().split("\n", 1)[0]
            message = f"the checkpoint does not fit the spec of its run ({reason:.200}); it is of another run"
            raise TrainingError(f"{message}: restore its files, or start a new run") from None

    def _create_mixup(self) -> Any:
        if self.recipe.mixup is None:
            return None
        if self.sampler.local_batch_size % 2:
            size = self.sampler.local_batch_size
            message = f"mixup pairs the images of a device, and each device has {size} of a batch"
            raise FieldError(("train", "batch_size"), "batch-size", message, "write one that makes this number even")
        from timm.data.mixup import Mixup

        return Mixup(  # type: ignore[no-untyped-call]
            mixup_alpha=self.recipe.mixup.mixup,
            cutmix_alpha=self.recipe.mixup.cutmix,
            prob=self.recipe.mixup.prob,
            switch_prob=self.recipe.mixup.switch_prob,
            label_smoothing=self.recipe.label_smoothing,
            num_classes=self.spec.model.num_classes,
        )

    def _create_objective(self, data: Data, listener: Listener) -> ClassificationTask | DistillationTask:
        smoothing, distill = float(self.recipe.label_smoothing), self.recipe.distill
        if distill is None:
            return ClassificationTask(self.ddp_model, label_smoothing=smoothing)
        teacher = load_teacher(distill, self.spec.model, data, listener)
        return DistillationTask(self.ddp_model, teacher, distill, data, label_smoothing=smoothing)
