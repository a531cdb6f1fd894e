"""A training under way: model, optimiser, schedule, average, and how far they are."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from t2tbuild.errors import FieldError, TrainingError
from t2tbuild.spec.tree import Spec
from t2tbuild.train.checkpoint import Checkpoint, save_checkpoint
from t2tbuild.train.data import load_data
from t2tbuild.train.interrupt import Interrupt
from t2tbuild.train.loop import CHECK_EVERY, evaluate, require_finite, train_step
from t2tbuild.train.objective import Classification, Distilled
from t2tbuild.train.optim import make_optimizer, make_schedule
from t2tbuild.train.order import Order, mix
from t2tbuild.train.precision import pick_dtype, use_tf32
from t2tbuild.train.ranks import Ranks
from t2tbuild.train.reports import EpochReport, Listener, Remark, StepReport, TrainResult
from t2tbuild.train.room import peak_memory_so_far
from t2tbuild.train.run_directory import Metrics
from t2tbuild.train.start import build_for_training
from t2tbuild.train.teacher import load_teacher
from t2tbuild.weights.export import timm_config
from t2tbuild.weights.read import position_metadata


class Training:
    """All that changes while a model is trained, on one rank. Everything random is a function of seed and place."""

    def __init__(self, spec: Spec, run: Path, ranks: Ranks, listener: Listener, checkpoint: Checkpoint | None) -> None:
        assert spec.train is not None
        self.spec, self.recipe, self.run, self.ranks, self.listener = spec, spec.train, run, ranks, listener
        self.dtype = pick_dtype(self.recipe.precision, ranks.device)
        use_tf32(self.recipe)
        self.data = load_data(
            self.recipe.data,
            image=spec.model.image,
            in_chans=spec.model.in_chans,
            device=ranks.device,
            ranks_here=ranks.local_count,
        )
        self.order = self._order()
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
        self.schedule = make_schedule(self.optimizer, self.recipe, self.order.steps)
        self.scaler = torch.amp.GradScaler(ranks.device.type) if self.dtype is torch.float16 else None
        self.mixup = self._mixup()
        self.config = timm_config(spec.model, self.model) if ranks.first else None
        self.metrics = Metrics(run / "metrics.jsonl")
        self.epoch, self.step, self.seconds, self.unsaved = 0, 0, 0.0, ""
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=ranks.device)
        self.best: dict[str, Any] = {"checkpoint": "", "accuracy": -1.0}
        self.skipped: list[str] = []
        if checkpoint is not None:
            self._continue(checkpoint)
        if self.recipe.compile:
            self.model.compile()
        self.trained = ranks.together(self.model)
        self.objective = self._objective()

    @property
    def kept(self) -> nn.Module:
        """The model that is evaluated: the averaged one, where the recipe averages."""
        kept: nn.Module = self.model if self.averaged is None else self.averaged.module
        return kept

    def finish(self, interrupt: Interrupt) -> TrainResult:
        """Train to the end. Raises KeyboardInterrupt once all is saved when `interrupt` says so."""
        epochs, began, images_seen = self.recipe.all_epochs, time.perf_counter(), 0
        saved, started = began, began
        self.trained.train()
        if self.epoch < epochs:
            for images, labels in self.data.training(self.order, epoch=self.epoch, step=self.step, epochs=epochs):
                self._train(images, labels)
                images_seen += self.order.share * self.ranks.count
                now = time.perf_counter()
                stop, due = self._asked(bool(interrupt), now - saved > self.recipe.save_every)
                if self.step == self.order.steps:
                    self.seconds += now - began
                    report = self._end_epoch(images_seen / (now - started))
                    self.save()
                    self.listener(report)
                    began = saved = started = time.perf_counter()
                    images_seen = 0
                elif stop or due:
                    self.seconds += now - began
                    self.save()
                    began = saved = time.perf_counter()
                if stop:
                    self.ranks.wait()
                    raise interrupt.error()
        return self._result()

    def try_steps(self, count: int) -> list[float]:
        """Take at most this many steps of the first epoch; gives the seconds of each."""
        seconds = []
        self.trained.train()
        for images, labels in self.data.training(self.order, epoch=0, step=0, epochs=1):
            started = time.perf_counter()
            self._train(images, labels)
            self.loss_sum.item()  # waits for the device
            seconds.append(time.perf_counter() - started)
            if len(seconds) == count:
                break
        return seconds

    def _train(self, images: Tensor, labels: Tensor) -> None:
        """One update; dropout and mixing are functions of seed, epoch, step and rank."""
        torch.manual_seed(mix(self.recipe.seed, self.epoch, self.step, self.ranks.rank))
        self.schedule.step_update(self.epoch * self.order.steps + self.step)
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.mixup is not None:
            np.random.seed(mix(self.recipe.seed, self.epoch, self.step, self.ranks.rank) % 2**32)
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
        self.loss_sum += loss
        if self.step % CHECK_EVERY == 0:
            require_finite(loss.item(), self.epoch * self.order.steps + self.step)
        self.step += 1
        images_in_step = self.order.share * self.ranks.count
        self.listener(StepReport(self.epoch, self.recipe.all_epochs, self.step, self.order.steps, images_in_step))

    def _asked(self, stop: bool, due: bool) -> tuple[bool, bool]:
        """Whether any rank was asked to stop, and whether the first finds a checkpoint due."""
        stops, dues = self.ranks.sum([float(stop), float(due and self.ranks.first)])
        return stops > 0, dues > 0

    def _end_epoch(self, rate: float) -> EpochReport:
        lr = self.optimizer.param_groups[-1]["lr"]
        (loss,) = self.ranks.sum([self.loss_sum.item() / self.order.steps / self.ranks.count])
        require_finite(loss, (self.epoch + 1) * self.order.steps)
        self.ranks.same_buffers(self.kept)
        validation = evaluate(self.kept, self.data, "validation", self.ranks, self.dtype)
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum.zero_()
        self._note_skipped()
        if validation.accuracy > self.best["accuracy"]:
            self.best = {"checkpoint": self._name(), "accuracy": validation.accuracy}
        report = EpochReport(
            epoch=self.epoch,
            epochs=self.recipe.all_epochs,
            train_loss=loss,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            validation_top5=validation.top5,
            images_per_second=rate,
            lr=lr,
            memory=peak_memory_so_far(self.ranks.device),
            skipped=len(self.skipped),
        )
        self._record({"event": "epoch", **asdict(report)})
        return report

    def _result(self) -> TrainResult:
        self.ranks.same_buffers(self.kept)
        validation, test = (
            evaluate(self.kept, self.data, split, self.ranks, self.dtype) for split in ("validation", "test")
        )
        result = TrainResult(
            name=self.spec.model.name,
            run=self.run,
            epochs=self.epoch,
            validation_accuracy=validation.accuracy,
            test_accuracy=test.accuracy,
            test_loss=test.loss,
            seconds=self.seconds,
            device=self.ranks.device.type,
            best=self.best["checkpoint"],
            best_accuracy=self.best["accuracy"],
            unsaved=self.unsaved,
            skipped=tuple(self.skipped),
        )
        if not self.unsaved:
            self._record({"event": "result", "result": asdict(result) | {"run": str(self.run)}})
        return result

    def _name(self) -> str:
        return f"step-{self.epoch * self.order.steps + self.step:09}"

    def _note_skipped(self) -> None:
        names = (name for found in self.ranks.gather(list(self.data.corrupt)) for name in found)
        self.skipped = list(dict.fromkeys([*self.skipped, *names]))

    def _record(self, record: dict[str, Any]) -> None:
        if not self.ranks.first:
            return
        try:
            self.metrics.add(record)
        except OSError as error:
            self.listener(Remark(f"{self.metrics.path}: cannot be written: {error.strerror}; tried again next epoch"))

    def save(self) -> None:
        """Write a checkpoint. A disk that does not take it is told, and training goes on."""
        self._note_skipped()
        sums = self.ranks.gather(self.loss_sum.item())
        if not self.ranks.first:
            return
        self._require_finite_weights()
        progress = {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "loss_sums": sums,
            "best": self.best,
            "skipped": self.skipped,
        }
        state = Checkpoint(
            model=self.model.state_dict(),
            averaged=None if self.averaged is None else self.averaged.module.state_dict(),
            state={"optimizer": self.optimizer.state_dict()}
            | ({} if self.scaler is None else {"scaler": self.scaler.state_dict()}),
            progress=progress,
            metadata=position_metadata(self.model),
            config=self.config,
        )
        try:
            save_checkpoint(self.run / "checkpoints", self._name(), state, keep=[self.best["checkpoint"]])
            self.unsaved = ""
        except TrainingError as error:
            self.unsaved = str(error)
            self.listener(Remark(f"{error}; the one before is as it was, and training goes on"))

    def _require_finite_weights(self) -> None:
        """Raises TrainingError when a weight is not finite, so that such a state is never saved."""
        norms = torch._foreach_norm([value for value in self.model.state_dict().values() if value.is_floating_point()])
        if not torch.stack([norm.float() for norm in norms]).isfinite().all():
            step = self.epoch * self.order.steps + self.step
            raise TrainingError(f"the weights are not finite at step {step}; a lower lr may help, or clipped gradients")

    def _continue(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.model)
        if self.averaged is not None and checkpoint.averaged is not None:
            self.averaged.module.load_state_dict(checkpoint.averaged)
        self.optimizer.load_state_dict(checkpoint.state["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(checkpoint.state["scaler"])
        progress, rank = checkpoint.progress, self.ranks.rank
        self.epoch, self.step, self.seconds = progress["epoch"], progress["step"], progress["seconds"]
        sums = progress["loss_sums"]
        if len(sums) != self.ranks.count:  # another number of ranks
            sums = [sum(sums) * self.ranks.count / len(sums)] + [0.0] * (self.ranks.count - 1)
        self.loss_sum += sums[rank]
        self.best, self.skipped = progress["best"], progress["skipped"]

    def _order(self) -> Order:
        passes = self.ranks.count * self.recipe.accumulate
        if self.recipe.batch_size % passes:
            told = f"batch_size {self.recipe.batch_size} is not divisible by {self.ranks.count} devices"
            more = f" times {self.recipe.accumulate} passes" if self.recipe.accumulate > 1 else ""
            raise FieldError(("train", "batch_size"), "batch-size", told + more, f"write a multiple of {passes}")
        samples = self.data.size("train")
        if samples < self.ranks.count:
            raise FieldError(("train", "data"), "data", f"{samples} training images for {self.ranks.count} devices")
        order = Order(samples, self.recipe.batch_size, self.recipe.seed, self.ranks.rank, self.ranks.count)
        if self.recipe.mixup is not None and order.share % 2:
            told = f"mixup pairs the images of a device, and each has {order.share} of a batch"
            raise FieldError(("train", "batch_size"), "batch-size", told, "write one that makes them even")
        return order

    def _average(self) -> Any:
        if self.recipe.ema is None:
            return None
        from timm.utils.model_ema import ModelEmaV3

        return ModelEmaV3(self.model, decay=float(self.recipe.ema))

    def _mixup(self) -> Any:
        if self.recipe.mixup is None:
            return None
        from timm.data.mixup import Mixup

        return Mixup(  # type: ignore[no-untyped-call]
            mixup_alpha=self.recipe.mixup.mixup,
            cutmix_alpha=self.recipe.mixup.cutmix,
            prob=self.recipe.mixup.prob,
            switch_prob=self.recipe.mixup.switch_prob,
            label_smoothing=self.recipe.label_smoothing,
            num_classes=self.spec.model.num_classes,
        )

    def _objective(self) -> Classification | Distilled:
        smoothing, distill = float(self.recipe.label_smoothing), self.recipe.distill
        if distill is None:
            return Classification(self.trained, label_smoothing=smoothing)
        teacher = load_teacher(distill, self.spec.model, self.data)
        return Distilled(self.trained, teacher, distill, self.data, label_smoothing=smoothing)
