"""What training tells those who listen, and what it gives in the end."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StepReport:
    """Where training stands within an epoch, for a progress bar. `images` is how many a step takes on all devices."""

    epoch: int
    epochs: int
    step: int
    steps: int
    images: int


@dataclass(frozen=True)
class EpochReport:
    """What an epoch gave.

    Losses are means in nats, accuracies 0 to 1; validation is of the averaged weights where the recipe averages.
    `memory` is the most bytes so far: of tensors on a GPU, of the process on a CPU. `skipped` counts the training
    images that could not be read so far.
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
    """Something that a person should know while training goes on."""

    text: str


@dataclass(frozen=True)
class TrainResult:
    """What a training gave. Accuracies are top-1, 0 to 1, of the last epoch's weights; test is measured once.

    Where the recipe averages, they are of the averaged weights. `best` is the checkpoint of the best epoch on
    validation, by which it was chosen, so that `best_accuracy` flatters. `unsaved` says why the last state is not on
    disk; it is empty when it is. `skipped` are the training images that could not be read.
    """

    name: str
    run: Path
    epochs: int
    validation_accuracy: float
    test_accuracy: float
    test_loss: float
    seconds: float
    device: str
    best: str = ""
    best_accuracy: float = 0.0
    unsaved: str = ""
    skipped: tuple[str, ...] = ()


Report = StepReport | EpochReport | Notice
Listener = Callable[[Report], None]


def ignore(_report: Report) -> None:
    """What hears when nobody listens."""


def whole_epochs(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of the lines of metrics.jsonl those of epochs that have all that an EpochReport has, with a finite accuracy."""
    numbers = [one.name for one in fields(EpochReport) if one.default is MISSING]
    message = [dict(record) for record in records if record.get("event") == "epoch"]
    whole = [one for one in message if all(isinstance(one.get(name), int | float) for name in numbers)]
    return [one for one in whole if math.isfinite(one["validation_accuracy"])]
