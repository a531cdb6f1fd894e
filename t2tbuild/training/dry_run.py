"""A dry run of training: a few steps, an evaluation and a save, in a temporary folder."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from t2tbuild.errors import TrainingError
from t2tbuild.spec.root import Spec
from t2tbuild.training.data import SplitName
from t2tbuild.training.device import pick_device
from t2tbuild.training.device_memory import max_memory_used
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.evaluate import evaluation_batch_size
from t2tbuild.training.reports import ignore_report
from t2tbuild.training.resolve import resolve, resolve_num_classes
from t2tbuild.training.run import suggest_batch_when_out_of_memory
from t2tbuild.training.trainer import Trainer

SPLITS: tuple[SplitName, ...] = ("validation", "test")
STEPS = 3  # the first one is slow, the last one is timed


@dataclass(frozen=True)
class DryRun:
    """The measurements of a dry run.

    Numbers of images in each split and of classes, mean loss of the first steps (nats), seconds of a step and of a
    save, bytes of a checkpoint and of peak memory, and hours of training at this step time, without evaluations.
    """

    name: str
    device: str
    precision: str
    train_images: int
    validation_images: int
    test_images: int
    classes: int
    loss: float
    step_seconds: float
    save_seconds: float
    checkpoint_bytes: int
    memory: int
    hours: float


def dry_run_training(spec: Spec, folder: Path | None = None, *, device: str | None = None) -> DryRun:
    """Build the model, run a few steps, evaluate a batch of each split, and save once in a temporary folder.

    The temporary folder is made in `folder`, so that the save is timed on its disk. Raises the errors of training.
    """
    resolved = resolve_num_classes(resolve(spec))
    distributed = DistributedContext(pick_device(device))
    with TemporaryDirectory(dir=folder) as run, suggest_batch_when_out_of_memory(resolved, distributed):
        trainer = Trainer(resolved, Path(run), distributed, ignore_report, None)
        seconds = _run_steps(trainer)
        for split in SPLITS:
            _evaluate_batch(trainer, split)
        started = time.perf_counter()
        trainer.save()
        save_seconds = time.perf_counter() - started
        if trainer.save_error:
            raise TrainingError(trainer.save_error)
        written = [path for path in Path(run).rglob("*") if path.is_file()]
        steps = trainer.sampler.steps_per_epoch * trainer.recipe.all_epochs
        return DryRun(
            name=resolved.model.name,
            device=distributed.device.type,
            precision=str(trainer.state.dtype).removeprefix("torch."),
            train_images=trainer.data.size("train"),
            validation_images=trainer.data.size("validation"),
            test_images=trainer.data.size("test"),
            classes=trainer.data.num_classes,
            loss=trainer.loss_sum.item() / len(seconds),
            step_seconds=seconds[-1],
            save_seconds=save_seconds,
            checkpoint_bytes=sum(path.stat().st_size for path in written),
            memory=max_memory_used(distributed.device),
            hours=seconds[-1] * steps / 3600,
        )


def _run_steps(trainer: Trainer) -> list[float]:
    """Run the first steps and return the seconds of each."""
    seconds: list[float] = []
    for images, labels in trainer.data.train_batches(trainer.sampler, epoch=0, step=0, epochs=1):
        started = time.perf_counter()
        trainer.step(images, labels)
        trainer.loss_sum.item()  # waits for the device
        seconds.append(time.perf_counter() - started)
        if len(seconds) == STEPS:
            break
    return seconds


@torch.no_grad()
def _evaluate_batch(trainer: Trainer, split: SplitName) -> None:
    """Run one batch of a split through the model that is evaluated."""
    batch_size = evaluation_batch_size(trainer.recipe)
    images, _ = next(iter(trainer.data.eval_batches(split, rank=0, world_size=1, batch_size=batch_size)))
    trainer.state.eval_model(images)
