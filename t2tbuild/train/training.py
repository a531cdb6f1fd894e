"""A training under way: where it is, what it measures, and what it saves."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from t2tbuild.errors import FieldError, TrainingError
from t2tbuild.spec.tree import Spec
from t2tbuild.train.checkpoint import Checkpoint, save_checkpoint
from t2tbuild.train.data import SplitName, load_data
from t2tbuild.train.interrupt import Interrupt
from t2tbuild.train.learner import Learner
from t2tbuild.train.loop import CHECK_EVERY, Evaluation, evaluate, require_finite
from t2tbuild.train.order import Order
from t2tbuild.train.ranks import Ranks
from t2tbuild.train.reports import EpochReport, Listener, Remark, StepReport, TrainResult
from t2tbuild.train.room import peak_memory_so_far
from t2tbuild.train.run_directory import Metrics
from t2tbuild.weights.export import timm_config
from t2tbuild.weights.read import position_metadata


class Training:
    """One rank's training of a resolved spec, from its start or from a checkpoint."""

    def __init__(self, spec: Spec, run: Path, ranks: Ranks, listener: Listener, checkpoint: Checkpoint | None) -> None:
        assert spec.train is not None
        self.spec, self.recipe, self.run, self.ranks, self.listener = spec, spec.train, run, ranks, listener
        self.data = load_data(
            self.recipe.data,
            image=spec.model.image,
            in_chans=spec.model.in_chans,
            device=ranks.device,
            ranks_here=ranks.local_count,
        )
        self.order = self._order()
        self.learner = Learner(spec, self.data, self.order, ranks, listener, checkpoint)
        self.config = timm_config(spec.model, self.learner.model) if ranks.first else None
        self.metrics = Metrics(run / "metrics.jsonl")
        self.epoch, self.step, self.seconds, self.unsaved = 0, 0, 0.0, ""
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=ranks.device)
        self.best: dict[str, Any] = {"checkpoint": "", "accuracy": -1.0}
        self.skipped: list[str] = []
        if checkpoint is not None:
            self._continue(checkpoint.progress)

    def finish(self, interrupt: Interrupt) -> TrainResult:
        """Train to the end. Raises KeyboardInterrupt once all is saved when `interrupt` says so."""
        epochs, began, images_seen = self.recipe.all_epochs, time.perf_counter(), 0
        saved, started = began, began
        if self.epoch < epochs:
            for images, labels in self.data.training(self.order, epoch=self.epoch, step=self.step, epochs=epochs):
                self.learn(images, labels)
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

    def learn(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """One step. Raises TrainingError when its loss is not finite, which is looked at now and then."""
        loss = self.learner.learn(images, labels, self.epoch, self.step)
        self.loss_sum += loss
        if self.step % CHECK_EVERY == 0:
            require_finite(loss.item(), self._updates)
        self.step += 1
        images_in_step = self.order.share * self.ranks.count
        self.listener(StepReport(self.epoch, self.recipe.all_epochs, self.step, self.order.steps, images_in_step))

    def evaluate(self, split: SplitName) -> Evaluation:
        """How good the kept weights are."""
        self.ranks.same_buffers(self.learner.kept)
        return evaluate(self.learner.kept, self.data, split, self.ranks, self.learner.dtype)

    def save(self) -> None:
        """Write a checkpoint. A disk that does not take it is told, and training goes on."""
        self._note_skipped()
        sums = self.ranks.gather(self.loss_sum.item())
        if not self.ranks.first:
            return
        self.learner.require_finite(self._updates)
        averaged = self.learner.averaged
        state = Checkpoint(
            model=self.learner.model.state_dict(),
            averaged=None if averaged is None else averaged.module.state_dict(),
            state=self.learner.state(),
            progress={
                "epoch": self.epoch,
                "step": self.step,
                "seconds": self.seconds,
                "loss_sums": sums,
                "best": self.best,
                "skipped": self.skipped,
            },
            metadata=position_metadata(self.learner.model),
            config=self.config,
        )
        try:
            save_checkpoint(self.run / "checkpoints", self._name, state, keep=[self.best["checkpoint"]])
            self.unsaved = ""
        except TrainingError as error:
            self.unsaved = str(error)
            self.listener(Remark(f"{error}; those before are as they were, and training goes on"))

    @property
    def _updates(self) -> int:
        return self.epoch * self.order.steps + self.step

    @property
    def _name(self) -> str:
        """Of the checkpoint of this place; names are in the order of time."""
        return f"step-{self._updates:09}"

    def _asked(self, stop: bool, due: bool) -> tuple[bool, bool]:
        """Whether any rank was asked to stop, and whether the first finds a checkpoint due."""
        stops, dues = self.ranks.sum([float(stop), float(due and self.ranks.first)])
        return stops > 0, dues > 0

    def _end_epoch(self, rate: float) -> EpochReport:
        (loss,) = self.ranks.sum([self.loss_sum.item() / self.order.steps / self.ranks.count])
        require_finite(loss, self._updates)
        validation = self.evaluate("validation")
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum.zero_()
        self._note_skipped()
        if validation.accuracy > self.best["accuracy"]:
            self.best = {"checkpoint": self._name, "accuracy": validation.accuracy}
        report = EpochReport(
            epoch=self.epoch,
            epochs=self.recipe.all_epochs,
            train_loss=loss,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            validation_top5=validation.top5,
            images_per_second=rate,
            lr=self.learner.lr,
            memory=peak_memory_so_far(self.ranks.device),
            skipped=len(self.skipped),
        )
        self._record({"event": "epoch", **asdict(report)})
        return report

    def _result(self) -> TrainResult:
        validation, test = self.evaluate("validation"), self.evaluate("test")
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

    def _continue(self, progress: dict[str, Any]) -> None:
        self.epoch, self.step, self.seconds = progress["epoch"], progress["step"], progress["seconds"]
        sums = progress["loss_sums"]
        if len(sums) != self.ranks.count:  # another number of ranks
            sums = [sum(sums) * self.ranks.count / len(sums)] + [0.0] * (self.ranks.count - 1)
        self.loss_sum += sums[self.ranks.rank]
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
        return Order(samples, self.recipe.batch_size, self.recipe.seed, self.ranks.rank, self.ranks.count)
