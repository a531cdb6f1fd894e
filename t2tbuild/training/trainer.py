"""A training under way: where it is, what it measures, and what it saves."""

import signal
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from t2tbuild.errors import FieldError, TrainingError
from t2tbuild.spec.data import Streamed
from t2tbuild.spec.root import Spec
from t2tbuild.training.checkpoint import Checkpoint, DiskError, save_checkpoint
from t2tbuild.training.data import SplitName, load_data
from t2tbuild.training.device_memory import peak_memory_so_far
from t2tbuild.training.distributed import Ranks
from t2tbuild.training.loop import CHECK_EVERY, Evaluation, evaluate, evaluation_batch, require_finite
from t2tbuild.training.progress import Progress
from t2tbuild.training.reports import EpochReport, Listener, Notice, StepReport, TrainResult
from t2tbuild.training.run_directory import Metrics
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.training.signals import Interrupt
from t2tbuild.training.train_state import TrainState
from t2tbuild.weights.export import timm_config
from t2tbuild.weights.read import position_metadata

SHOWN = 5  # unreadable images that a remark names
BEFORE_EVALUATION = 60.0
"""Seconds of training after which its state is saved before an evaluation, which may take long itself."""


class Trainer:
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
        self.learner = TrainState(spec, self.data, self.order, ranks, listener, checkpoint)
        looks = {"mean": self.data.mean, "std": self.data.std}
        self.config = timm_config(spec.model, self.learner.model, **looks) if ranks.first else None
        self.metrics = Metrics(run / "metrics.jsonl")
        self.progress = Progress() if checkpoint is None else Progress.from_json(checkpoint.progress)
        self.data.remember(self.progress.skipped)
        loss = self.progress.loss_of(ranks.rank, ranks.count)
        self.loss_sum = torch.tensor(loss, dtype=torch.float64, device=ranks.device)
        self.validation: Evaluation | None = None
        self.better: float | None = None
        self.unsaved = ""

    def finish(self, interrupt: Interrupt) -> TrainResult:
        """Train to the end. Raises KeyboardInterrupt once all is saved when `interrupt` says so."""
        epochs, place = self.recipe.all_epochs, self.progress
        if place.step == self.order.steps:  # stopped before its evaluation
            self._end_epoch(0.0)
        saved = started = began = time.perf_counter()
        images_seen = 0
        if place.epoch < epochs:
            for images, labels in self.data.training(self.order, epoch=place.epoch, step=place.step, epochs=epochs):
                self.learn(images, labels)
                images_seen += self.order.share * self.ranks.count
                now = time.perf_counter()
                place.seconds += now - began
                ended = place.step == self.order.steps
                wait = min(BEFORE_EVALUATION, self.recipe.save_every) if ended else self.recipe.save_every
                stop, due = self._asked(interrupt, now - saved > wait)
                if stop or due:
                    self.save()
                    saved = now = time.perf_counter()
                if stop:
                    self.ranks.wait()
                    raise interrupt.error()
                if ended:
                    self._end_epoch(images_seen / (now - started))
                    saved = started = now = time.perf_counter()
                    images_seen = 0
                began = now
        return self._result()

    def learn(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """One step. Raises TrainingError when a loss since the last look was not finite."""
        place = self.progress
        self.loss_sum += self.learner.learn(images, labels, place.epoch, place.step)
        if place.step % CHECK_EVERY == 0:
            require_finite(self.loss_sum.item(), self._updates)
        place.step += 1
        images_in_step = self.order.share * self.ranks.count
        self.listener(StepReport(place.epoch, self.recipe.all_epochs, place.step, self.order.steps, images_in_step))

    def evaluate(self, split: SplitName) -> Evaluation:
        """How good the kept weights are."""
        self.ranks.same_buffers(self.learner.kept)
        size = evaluation_batch(self.recipe)
        return evaluate(self.learner.kept, self.data, split, self.ranks, self.learner.dtype, size)

    def save(self) -> None:
        """Write a checkpoint. A disk that does not take it is told, and training goes on."""
        self._note_skipped()
        self.progress.losses = self.ranks.gather(self.loss_sum.item())
        require_finite(sum(self.progress.losses), self._updates)
        if not self.ranks.first:
            return
        self.learner.require_finite(self._updates)
        averaged, better, name = self.learner.averaged, self.better, f"step-{self._updates:09}"
        place = self.progress if better is None else replace(self.progress, best=name, best_accuracy=better)
        state = Checkpoint(
            model=self.learner.model.state_dict(),
            averaged=None if averaged is None else averaged.module.state_dict(),
            state=self.learner.state(),
            progress=place.as_json(),
            metadata=position_metadata(self.learner.model),
            config=self.config,
        )
        try:
            save_checkpoint(self.run / "checkpoints", name, state, keep=[place.best])
            self.progress.best, self.progress.best_accuracy, self.unsaved = place.best, place.best_accuracy, ""
        except DiskError as error:
            self.unsaved = str(error)
            self.listener(Notice(f"{error}; those before are as they were, and training goes on"))
        self.better = None

    @property
    def _updates(self) -> int:
        return self.progress.epoch * self.order.steps + self.progress.step

    def _asked(self, interrupt: Interrupt, due: bool) -> tuple[bool, bool]:
        """Whether any rank was asked to stop, which all then take as theirs, and whether the first wants to save."""
        message = [float(interrupt.number == signal.SIGINT), float(interrupt.number == signal.SIGTERM)]
        keyboard, terminated, dues = self.ranks.sum([*message, float(due and self.ranks.first)])
        if terminated or keyboard:
            interrupt.number = signal.SIGTERM if terminated else signal.SIGINT
        return bool(interrupt), dues > 0

    def _end_epoch(self, rate: float) -> None:
        """Evaluate, tell and save the epoch whose last step is done."""
        place = self.progress
        (loss,) = self.ranks.sum([self.loss_sum.item() / self.order.steps / self.ranks.count])
        require_finite(loss, self._updates)
        self.validation = self.evaluate("validation")
        place.epoch, place.step = place.epoch + 1, 0
        self.loss_sum.zero_()
        self._note_skipped()
        self.better = self.validation.accuracy if self.validation.accuracy > place.best_accuracy else None
        report = EpochReport(
            epoch=place.epoch,
            epochs=self.recipe.all_epochs,
            train_loss=loss,
            validation_loss=self.validation.loss,
            validation_accuracy=self.validation.accuracy,
            validation_top5=self.validation.top5,
            images_per_second=rate,
            lr=self.learner.lr,
            memory=peak_memory_so_far(self.ranks.device),
            skipped=len(place.skipped),
        )
        self._record({"event": "epoch", **asdict(report)})
        self.save()
        self.listener(report)

    def _result(self) -> TrainResult:
        validation = self.validation or self.evaluate("validation")
        test = self.evaluate("test")
        result = TrainResult(
            name=self.spec.model.name,
            run=self.run,
            epochs=self.progress.epoch,
            validation_accuracy=validation.accuracy,
            test_accuracy=test.accuracy,
            test_loss=test.loss,
            seconds=self.progress.seconds,
            device=self.ranks.device.type,
            best=self.progress.best,
            best_accuracy=self.progress.best_accuracy,
            unsaved=self.unsaved,
            skipped=tuple(self.progress.skipped),
        )
        if self.unsaved:
            return result
        unsaved = self._record({"event": "result", "result": asdict(result) | {"run": str(self.run)}})
        return replace(result, unsaved=unsaved)

    def _note_skipped(self) -> None:
        """Gather the unreadable images of all ranks. Raises TrainingError on all of them when there are too many."""
        names = {name for found in self.ranks.gather(list(self.data.corrupt)) for name in found}
        new = sorted(names - {*self.progress.skipped})
        if new:
            message = f"{len(new)} training images cannot be read and are replaced: {'; '.join(new[:SHOWN])}"
            more = f" and {len(new) - SHOWN} more, all in the checkpoint's progress.json" if len(new) > SHOWN else ""
            self.listener(Notice(message + more))
        self.progress.skipped = sorted({*self.progress.skipped, *names})
        if isinstance(self.recipe.data, Streamed) and len(self.progress.skipped) > self.recipe.data.skip_corrupt:
            message = f"{len(self.progress.skipped)} training images cannot be read: {self.progress.skipped[0]} ..."
            raise TrainingError(f"{message}; repair or remove them, or raise train.data.skip_corrupt")

    def _record(self, record: dict[str, Any]) -> str:
        """Write a line of metrics; gives why it cannot be written, empty when it is."""
        if not self.ranks.first:
            return ""
        try:
            self.metrics.add(record)
        except OSError as error:
            message = f"{self.metrics.path} cannot be written: {error.strerror}"
            self.listener(Notice(f"{message}; training goes on"))
            return message
        return ""

    def _order(self) -> EpochSampler:
        passes = self.ranks.count * self.recipe.accumulate
        if self.recipe.batch_size % passes:
            message = f"batch_size {self.recipe.batch_size} is not divisible by {self.ranks.count} devices"
            more = f" times {self.recipe.accumulate} passes" if self.recipe.accumulate > 1 else ""
            raise FieldError(("train", "batch_size"), "batch-size", message + more, f"write a multiple of {passes}")
        samples = self.data.size("train")
        if samples < self.ranks.count:
            raise FieldError(("train", "data"), "data", f"{samples} training images for {self.ranks.count} devices")
        return EpochSampler(samples, self.recipe.batch_size, self.recipe.seed, self.ranks.rank, self.ranks.count)
