"""A dry run of training: a few steps, an evaluation and a save, in a temporary folder."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from t2tbuild.errors import TrainingError
from t2tbuild.spec.data import has_test_images
from t2tbuild.spec.root import Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.units import plural
from t2tbuild.training.data import SplitName
from t2tbuild.training.data.dataset import OnProgress
from t2tbuild.training.data.loader import StreamedData
from t2tbuild.training.data_notices import data_notices
from t2tbuild.training.device import pick_device
from t2tbuild.training.device_memory import max_memory_used
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.evaluate import evaluation_batch_size
from t2tbuild.training.reports import ignore_report
from t2tbuild.training.resolve import resolve, resolve_files
from t2tbuild.training.run import suggest_batch_when_out_of_memory
from t2tbuild.training.trainer import Trainer

SPLITS: tuple[SplitName, ...] = ("validation", "test")
STEPS = 3  # the first one is slow, the last one is timed


@dataclass(frozen=True)
class DryRun:
    """The measurements of a dry run.

    Numbers of images in each split (of test images 0 where there are none) and of classes, mean loss of the first steps
    (nats), seconds of a step and of a save, bytes of a checkpoint and of peak memory, and hours of training at this
    step time, without evaluations. `skipped` are images that cannot be read and do not end a training; `notes` what was
    chosen for the data.
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
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def dry_run_training(
    spec: Spec, folder: Path | None = None, on_progress: OnProgress | None = None, *, device: str | None = None
) -> DryRun:
    """Build the model, run a few steps, evaluate a batch of each split, and save once in a temporary folder.

    All images of validation and test are read from their files. The temporary folder is made in `folder`, so that the
    save is timed on its disk. Raises the errors of training, and TrainingError with the names of all images that would
    end it.
    """
    resolved = resolve_files(resolve(spec))
    distributed = DistributedContext(pick_device(device))
    with TemporaryDirectory(dir=folder) as run, suggest_batch_when_out_of_memory(resolved, distributed):
        trainer = Trainer(resolved, Path(run), distributed, ignore_report, None)
        seconds = _run_steps(trainer)
        has_test = has_test_images(trainer.recipe.data)
        splits = SPLITS if has_test else SPLITS[:1]
        for split in splits:
            _evaluate_batch(trainer, split)
        _check_images(trainer, splits, on_progress)
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
            test_images=trainer.data.size("test") if has_test else 0,
            classes=trainer.data.num_classes,
            loss=trainer.loss_sum.item() / len(seconds),
            step_seconds=seconds[-1],
            save_seconds=save_seconds,
            checkpoint_bytes=sum(path.stat().st_size for path in written),
            memory=max_memory_used(distributed.device),
            hours=seconds[-1] * steps / 3600,
            skipped=tuple(trainer.data.corrupt_images),
            notes=tuple(data_notices((spec.train or TrainSpec()).data, trainer.recipe.data)),
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


def _check_images(trainer: Trainer, splits: Sequence[SplitName], on_progress: OnProgress | None) -> None:
    """Read all images of the splits. Raises TrainingError with the names of those that would end an evaluation."""
    data = trainer.data
    if not isinstance(data, StreamedData):
        return
    broken: list[str] = []
    for split in splits:
        report = None if on_progress is None else partial(_report, on_progress, split, data.size(split))
        found = data.find_corrupt(split, report)
        if data.is_held_out(split):
            data.record_corrupt(found)
        else:
            broken += [f"{split}: {corrupt}" for corrupt in found]
    if broken:
        message = f"{plural(len(broken), 'image')} of validation and test cannot be read; repair or remove them"
        raise TrainingError("\n".join([f"{message}:", *broken]))


def _report(on_progress: OnProgress, split: str, total: int, done: int) -> None:
    on_progress(split, done, total)


@torch.no_grad()
def _evaluate_batch(trainer: Trainer, split: SplitName) -> None:
    """Run one batch of a split through the model that is evaluated."""
    batch_size = evaluation_batch_size(trainer.recipe)
    try:
        images, _ = next(iter(trainer.data.eval_batches(split, rank=0, world_size=1, batch_size=batch_size)))
    except TrainingError:
        return  # an image that cannot be read: all of them are found next
    trainer.state.eval_model(images)
