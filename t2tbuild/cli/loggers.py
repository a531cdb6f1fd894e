"""Where else a training's figures go: TensorBoard, Weights & Biases."""

from __future__ import annotations

import hashlib
import importlib.util
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from t2tbuild.errors import InputError

if TYPE_CHECKING:
    from t2tbuild.spec import Spec
    from t2tbuild.training import EpochReport

FIGURES = ("train_loss", "validation_loss", "validation_accuracy", "validation_top5", "images_per_second", "lr")


class Log(StrEnum):
    """A program that shows trainings."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"

    def require(self) -> None:
        """Raises InputError when its package is missing."""
        if importlib.util.find_spec(self) is None:
            raise InputError(f"--log {self} needs a package: pip install 't2tbuild[{self}]'")


class Logger(Protocol):
    """What hears of epochs."""

    def hear(self, report: EpochReport) -> None:
        """Note an epoch's figures."""

    def close(self) -> None:
        """Write what is left."""


def open_logger(log: Log, run: Path, spec: Spec) -> Logger:
    """What writes to the given program. A run that is continued goes on in the same place."""
    return _TensorBoard(run) if log is Log.TENSORBOARD else _Wandb(run, spec)


def _figures(report: EpochReport) -> dict[str, float]:
    return {name: getattr(report, name) for name in FIGURES}


class _TensorBoard:
    """Event files in the run directory; epochs that are trained again replace what was there."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "tensorboard"
        self.writer: Any = None

    def hear(self, report: EpochReport) -> None:
        if self.writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=report.epoch)
        for name, value in _figures(report).items():
            self.writer.add_scalar(name, value, report.epoch)
        self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class _Wandb:
    """A run of Weights & Biases, known by the folder, so that it is continued; the key is that of its own login."""

    def __init__(self, run: Path, spec: Spec) -> None:
        self.run, self.spec = run, spec
        self.session: Any = None

    def hear(self, report: EpochReport) -> None:
        if self.session is None:
            import wandb

            from t2tbuild.files import redact
            from t2tbuild.spec.write import dump_yaml

            self.session = wandb.init(
                project="t2tbuild",
                name=self.run.name,
                id=hashlib.sha256(str(self.run.resolve()).encode()).hexdigest()[:16],
                resume="allow",
                dir=str(self.run),
                config={"spec": redact(dump_yaml(self.spec))},
            )
        self.session.log(_figures(report), step=report.epoch)

    def close(self) -> None:
        if self.session is not None:
            self.session.finish()
