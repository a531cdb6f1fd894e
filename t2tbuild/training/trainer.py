"""The trainer: runs the steps of a training, evaluates each epoch, reports and saves."""

import signal
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from t2tbuild.errors import FieldError, TrainingError
from t2tbuild.files import short_path
from t2tbuild.spec.data import Streamed, has_test_images
from t2tbuild.spec.root import Spec
from t2tbuild.spec.units import plural
from t2tbuild.training.checkpoint import Checkpoint, DiskError, save_checkpoint
from t2tbuild.training.data import SplitName, load_data
from t2tbuild.training.data.python_datasets import PythonDatasets
from t2tbuild.training.data_notices import describe_unreadable
from t2tbuild.training.device import sum_dtype
from t2tbuild.training.device_memory import max_memory_used
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.evaluate import Evaluation, evaluate, evaluation_batch_size
from t2tbuild.training.loop import CHECK_EVERY, require_finite
from t2tbuild.training.preprocessing import data_preprocessing
from t2tbuild.training.progress import Progress
from t2tbuild.training.reports import EpochReport, Listener, Notice, StepReport, TrainResult
from t2tbuild.training.resolve import require_divisible_batch
from t2tbuild.training.run_directory import MetricsFile
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.training.signals import Interrupt
from t2tbuild.training.train_state import TrainState
from t2tbuild.weights.export import timm_config
from t2tbuild.weights.label_names import label_metadata
from t2tbuild.weights.read import position_metadata

NAMES_IN_NOTICE = 5  # unreadable images that a notice names
SAVE_BEFORE_EVALUATION = 60.0
"""Seconds since the last save after which the state is saved before an evaluation, which may take long."""


class Trainer:
    """One rank's training of a resolved spec, from its first step or from a checkpoint."""

    def __init__(
        self,
        spec: Spec,
        run: Path,
        distributed: DistributedContext,
        listener: Listener,
        checkpoint: Checkpoint | None,
        datasets: PythonDatasets | None = None,
    ) -> None:
        assert spec.train is not None
        self.spec, self.recipe, self.run = spec, spec.train, run
        self.distributed, self.listener = distributed, listener
        self.data = load_data(
            self.recipe.data,
            image=spec.model.image,
            in_chans=spec.model.in_chans,
            device=distributed.device,
            local_world_size=distributed.local_world_size,
            datasets=datasets,
        )
        self.sampler = self._create_sampler()
        self.state = TrainState(spec, self.data, self.sampler, distributed, listener, checkpoint)
        self.config = None
        if distributed.is_main:
            steps = data_preprocessing(self.recipe.data, spec.model)
            self.config = timm_config(spec.model, self.state.model, steps)
        self.metrics = MetricsFile(run / "metrics.jsonl")
        self.progress = Progress() if checkpoint is None else Progress.from_json(checkpoint.progress)
        self.data.mark_corrupt(self.progress.skipped)
        loss = self.progress.loss_sum_of(distributed.rank, distributed.world_size)
        self.loss_sum = torch.tensor(loss, dtype=sum_dtype(distributed.device), device=distributed.device)
        self.validation: Evaluation | None = None
        self.new_best_accuracy: float | None = None
        self.save_error = ""

    def fit(self, interrupt: Interrupt) -> TrainResult:
        """Train to the last epoch. After a request to stop, save and raise KeyboardInterrupt."""
        epochs, progress = self.recipe.all_epochs, self.progress
        if progress.step == self.sampler.steps_per_epoch:  # stopped before the epoch's evaluation
            self._end_epoch(0.0)
        saved_at = epoch_start = step_start = time.perf_counter()
        images_seen = 0
        if progress.epoch < epochs:
            for images, labels in self.data.train_batches(
                self.sampler, epoch=progress.epoch, step=progress.step, epochs=epochs
            ):
                self.step(images, labels)
                images_seen += self._images_per_step
                now = time.perf_counter()
                progress.seconds += now - step_start
                epoch_ended = progress.step == self.sampler.steps_per_epoch
                save_every = self.recipe.save_every
                if epoch_ended:
                    # an unreadable validation image ends the training: it must not cost the epoch
                    streamed = isinstance(self.recipe.data, Streamed)
                    save_every = 0 if streamed else min(SAVE_BEFORE_EVALUATION, save_every)
                stop, save = self._sync_requests(interrupt, now - saved_at > save_every)
                if stop or save:
                    self.save()
                    saved_at = now = time.perf_counter()
                if stop:
                    self.distributed.barrier()
                    raise interrupt.exception()
                if epoch_ended:
                    self._end_epoch(images_seen / (now - epoch_start))
                    saved_at = epoch_start = now = time.perf_counter()
                    images_seen = 0
                step_start = now
        return self._result()

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Run one step. Raises TrainingError when a loss since the last check was not finite."""
        progress = self.progress
        self.loss_sum += self.state.update(images, labels, progress.epoch, progress.step)
        if progress.step % CHECK_EVERY == 0:
            require_finite(self.loss_sum.item(), self._global_step)
        progress.step += 1
        self.listener(
            StepReport(
                epoch=progress.epoch,
                epochs=self.recipe.all_epochs,
                step=progress.step,
                steps=self.sampler.steps_per_epoch,
                images=self._images_per_step,
            )
        )

    def evaluate(self, split: SplitName) -> Evaluation:
        """Evaluate the model, with averaged weights where the recipe averages."""
        model, batch_size = self.state.eval_model, evaluation_batch_size(self.recipe)
        self.distributed.broadcast_buffers(model)
        return evaluate(model, self.data, split, self.distributed, self.state.dtype, batch_size)

    def save(self) -> None:
        """Write a checkpoint. If it cannot be written, notify the listener and continue."""
        self._collect_skipped()
        self.progress.losses = self.distributed.all_gather(self.loss_sum.item())
        require_finite(sum(self.progress.losses), self._global_step)
        if not self.distributed.is_main:
            return
        self.state.require_finite(self._global_step)
        ema, accuracy, name = self.state.ema, self.new_best_accuracy, f"step-{self._global_step:09}"
        progress = self.progress if accuracy is None else replace(self.progress, best=name, best_accuracy=accuracy)
        checkpoint = Checkpoint(
            model=self.state.model.state_dict(),
            ema=None if ema is None else ema.module.state_dict(),
            state=self.state.optimizer_state(),
            progress=progress.as_json(),
            metadata=position_metadata(self.state.model) | label_metadata(self.spec.model.label_names),
            config=self.config,
        )
        try:
            save_checkpoint(self.run / "checkpoints", name, checkpoint, keep=[progress.best])
            self.progress.best, self.progress.best_accuracy = progress.best, progress.best_accuracy
            self.save_error = ""
        except DiskError as error:
            self.save_error = str(error)
            self.listener(Notice(f"{error}; earlier checkpoints are unchanged, and training continues"))
        self.new_best_accuracy = None

    @property
    def _global_step(self) -> int:
        return self.progress.epoch * self.sampler.steps_per_epoch + self.progress.step

    @property
    def _images_per_step(self) -> int:
        return self.sampler.local_batch_size * self.distributed.world_size

    def _sync_requests(self, interrupt: Interrupt, save_due: bool) -> tuple[bool, bool]:
        """Return whether any rank was asked to stop, and whether rank 0 wants to save, the same on every rank."""
        signals = [float(interrupt.signal_number == number) for number in (signal.SIGINT, signal.SIGTERM)]
        save = float(save_due and self.distributed.is_main)
        interrupted, terminated, saves = self.distributed.all_reduce_sum([*signals, save])
        if terminated or interrupted:
            interrupt.signal_number = signal.SIGTERM if terminated else signal.SIGINT
        return bool(interrupt), saves > 0

    def _end_epoch(self, images_per_second: float) -> None:
        """Evaluate, record and save the epoch whose last step is done."""
        progress = self.progress
        mean_loss = self.loss_sum.item() / self.sampler.steps_per_epoch / self.distributed.world_size
        (loss,) = self.distributed.all_reduce_sum([mean_loss])
        require_finite(loss, self._global_step)
        self._collect_skipped()
        self.validation = self.evaluate("validation")
        progress.epoch, progress.step = progress.epoch + 1, 0
        self.loss_sum.zero_()
        self._collect_skipped(held_out=True)
        accuracy = self.validation.accuracy
        self.new_best_accuracy = accuracy if accuracy > progress.best_accuracy else None
        report = EpochReport(
            epoch=progress.epoch,
            epochs=self.recipe.all_epochs,
            train_loss=loss,
            validation_loss=self.validation.loss,
            validation_accuracy=accuracy,
            validation_top5=self.validation.top5,
            images_per_second=images_per_second,
            lr=self.state.lr,
            memory=max_memory_used(self.distributed.device),
            skipped=len(progress.skipped),
        )
        self._record({"event": "epoch", **asdict(report)})
        self.save()
        self.listener(report)

    def _result(self) -> TrainResult:
        validation = self.validation or self.evaluate("validation")
        test = self.evaluate("test") if has_test_images(self.recipe.data) else None
        result = TrainResult(
            name=self.spec.model.name,
            run=self.run,
            epochs=self.progress.epoch,
            validation_accuracy=validation.accuracy,
            test_accuracy=None if test is None else test.accuracy,
            test_loss=None if test is None else test.loss,
            seconds=self.progress.seconds,
            device=self.distributed.device.type,
            best=self.progress.best,
            best_accuracy=self.progress.best_accuracy,
            unsaved=self.save_error,
            skipped=tuple(self.progress.skipped),
        )
        if self.save_error:
            return result
        error = self._record({"event": "result", "result": asdict(result) | {"run": str(self.run)}})
        return replace(result, unsaved=error)

    def _collect_skipped(self, *, held_out: bool = False) -> None:
        """Gather the unreadable images of all ranks; new ones are of training, or `held_out` after an evaluation.

        Raises TrainingError on every rank when there are too many.
        """
        names = {name for found in self.distributed.all_gather(list(self.data.corrupt_images)) for name in found}
        new = sorted(names - {*self.progress.skipped})
        if new:
            named = "; ".join(map(short_path, new[:NAMES_IN_NOTICE]))
            text = f"{describe_unreadable(len(new), held_out=held_out)}: {named}"
            if len(new) > NAMES_IN_NOTICE:
                text += f" and {len(new) - NAMES_IN_NOTICE} more, all in the checkpoint's progress.json"
            self.listener(Notice(text))
        skipped = self.progress.skipped = sorted({*self.progress.skipped, *names})
        if isinstance(self.recipe.data, Streamed) and len(skipped) > self.recipe.data.skip_corrupt:
            message = f"{plural(len(skipped), 'training image')} cannot be read: {skipped[0]} ..."
            raise TrainingError(f"{message}; repair or remove them, or raise train.data.skip_corrupt")

    def _record(self, record: dict[str, Any]) -> str:
        """Append a line to the metrics. Returns the reason when the disk refuses it, else an empty text."""
        if not self.distributed.is_main:
            return ""
        try:
            self.metrics.append(record)
        except OSError as error:
            message = f"{self.metrics.path} cannot be written: {error.strerror}"
            self.listener(Notice(f"{message}; training continues"))
            return message
        return ""

    def _create_sampler(self) -> EpochSampler:
        world_size = self.distributed.world_size
        require_divisible_batch(self.recipe, world_size)
        samples = self.data.size("train")
        if samples < world_size:
            message = f"{plural(samples, 'training image')} for {plural(world_size, 'device')}"
            raise FieldError(("train", "data"), "data", message, f"train on at most {plural(samples, 'device')}")
        return EpochSampler(samples, self.recipe.batch_size, self.recipe.seed, self.distributed.rank, world_size)
