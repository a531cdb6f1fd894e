"""Reports of training to its listener, and its result."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StepReport:
    """The position within an epoch, for a progress bar. `images` are those of a step on all devices."""

    epoch: int
    epochs: int
    step: int
    steps: int
    images: int


@dataclass(frozen=True)
class EpochReport:
    """The metrics of an epoch.

    Losses are means in nats, accuracies 0 to 1. Validation uses the averaged weights (EMA) where the recipe averages.
    `memory` is the peak so far in bytes: of tensors on a GPU, of the process on a CPU. `skipped` counts the unreadable
    training images so far.
    """

    epoch: int
    epochs: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    validation_top5: float
    images_per_second: float
    lr: float
    memory: int
    skipped: int = 0


@dataclass(frozen=True)
class Notice:
    """A message to the user during training."""

    text: str


@dataclass(frozen=True)
class TrainResult:
    """The result of a training. Accuracies are top-1, 0 to 1, of the last epoch's weights, or of their average (EMA).

    The test split is evaluated once; its figures are None for data without test images. `best` is the checkpoint with
    the best validation accuracy; `best_accuracy` is biased upwards, because it selected the checkpoint. `unsaved` is
    the reason why the last state is not on disk, empty if it is. `skipped` are the unreadable training images.
    """

    name: str
    run: Path
    epochs: int
    validation_accuracy: float
    test_accuracy: float | None
    test_loss: float | None
    seconds: float
    device: str
    best: str = ""
    best_accuracy: float = 0.0
    unsaved: str = ""
    skipped: tuple[str, ...] = ()


Report = StepReport | EpochReport | Notice
Listener = Callable[[Report], None]


def ignore_report(_report: Report) -> None:
    """Ignore a report: the default listener."""


def complete_epochs(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the epochs of metrics.jsonl that have all fields of an EpochReport and a finite accuracy."""
    names = [field.name for field in fields(EpochReport) if field.default is MISSING]
    epochs = [dict(record) for record in records if record.get("event") == "epoch"]
    complete = [epoch for epoch in epochs if all(isinstance(epoch.get(name), int | float) for name in names)]
    return [epoch for epoch in complete if math.isfinite(epoch["validation_accuracy"])]
