"""A training's dry run: everything once, in a folder that is thrown away."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from t2tbuild.errors import TrainingError
from t2tbuild.spec.root import Spec
from t2tbuild.training.data import SplitName
from t2tbuild.training.device import pick_device
from t2tbuild.training.device_memory import peak_memory_so_far
from t2tbuild.training.distributed import Ranks
from t2tbuild.training.loop import evaluation_batch
from t2tbuild.training.reports import ignore
from t2tbuild.training.resolve import locate, resolve
from t2tbuild.training.run import out_of_memory
from t2tbuild.training.trainer import Trainer

SPLITS: tuple[SplitName, ...] = ("validation", "test")
STEPS = 3  # the first is slow, and the last is the one that is timed


@dataclass(frozen=True)
class DryRun:
    """What a dry run found.

    Numbers of images in each split, the classes, the mean loss of the first steps (nats), seconds of a step and of a
    save, bytes of a checkpoint and of memory at the peak so far, and hours of training by this step, evaluations not
    counted.
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


def dry_run_training(spec: Spec, beside: Path | None = None) -> DryRun:
    """Build, take a few steps, evaluate a batch of each split, save once beside a folder; nothing of it is kept.

    Raises what training would raise.
    """
    resolved = locate(resolve(spec))
    ranks = Ranks(pick_device())
    with TemporaryDirectory(dir=beside) as folder, out_of_memory(resolved, ranks):
        training = Trainer(resolved, Path(folder), ranks, ignore, None)
        seconds = _try_steps(training)
        for split in SPLITS:
            _try_evaluation(training, split)
        started = time.perf_counter()
        training.save()
        saving = time.perf_counter() - started
        if training.unsaved:
            raise TrainingError(training.unsaved)
        written = [path for path in Path(folder).rglob("*") if path.is_file()]
        steps = training.order.steps * training.recipe.all_epochs
        return DryRun(
            name=resolved.model.name,
            device=ranks.device.type,
            precision=str(training.learner.dtype).removeprefix("torch."),
            train_images=training.data.size("train"),
            validation_images=training.data.size("validation"),
            test_images=training.data.size("test"),
            classes=training.data.num_classes,
            loss=training.loss_sum.item() / len(seconds),
            step_seconds=seconds[-1],
            save_seconds=saving,
            checkpoint_bytes=sum(path.stat().st_size for path in written),
            memory=peak_memory_so_far(ranks.device),
            hours=seconds[-1] * steps / 3600,
        )


def _try_steps(training: Trainer) -> list[float]:
    """Take the first steps of a training; gives the seconds of each."""
    seconds: list[float] = []
    for images, labels in training.data.training(training.order, epoch=0, step=0, epochs=1):
        started = time.perf_counter()
        training.learn(images, labels)
        training.loss_sum.item()  # waits for the device
        seconds.append(time.perf_counter() - started)
        if len(seconds) == STEPS:
            break
    return seconds


@torch.no_grad()
def _try_evaluation(training: Trainer, split: SplitName) -> None:
    """One batch of a split through the model that is evaluated."""
    size = evaluation_batch(training.recipe)
    images, _ = next(iter(training.data.evaluation(split, rank=0, ranks=1, batch_size=size)))
    training.learner.kept(images)
