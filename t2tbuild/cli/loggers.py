"""Log the metrics of a training to TensorBoard or Weights & Biases."""

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

METRICS = ("train_loss", "validation_loss", "validation_accuracy", "validation_top5", "images_per_second", "lr")


class LoggerKind(StrEnum):
    """Supported experiment trackers."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"

    def check_installed(self) -> None:
        """Raise InputError if the package of the tracker is missing."""
        if importlib.util.find_spec(self) is None:
            raise InputError(f"--log {self} needs another package; run pip install 't2tbuild[{self}]'")


class Logger(Protocol):
    """An experiment tracker of one training."""

    def log_epoch(self, report: EpochReport) -> None:
        """Log the metrics of an epoch."""

    def close(self) -> None:
        """Flush and close."""


def open_logger(kind: LoggerKind, run: Path, spec: Spec) -> Logger:
    """Open the logger of a run. A resumed run continues in the same log."""
    return _TensorBoard(run) if kind is LoggerKind.TENSORBOARD else _Wandb(run, spec)


def _metrics(report: EpochReport) -> dict[str, float]:
    return {name: getattr(report, name) for name in METRICS}


class _TensorBoard:
    """Event files in the run directory; a repeated epoch replaces its earlier values."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "tensorboard"
        self.writer: Any = None

    def log_epoch(self, report: EpochReport) -> None:
        if self.writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=report.epoch)
        for name, value in _metrics(report).items():
            self.writer.add_scalar(name, value, report.epoch)
        self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class _Wandb:
    """A W&B run whose id is derived from the folder, so that it resumes; credentials are those of `wandb login`."""

    def __init__(self, run: Path, spec: Spec) -> None:
        self.run, self.spec = run, spec
        self.session: Any = None

    def log_epoch(self, report: EpochReport) -> None:
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
        self.session.log(_metrics(report), step=report.epoch)

    def close(self) -> None:
        if self.session is not None:
            self.session.finish()
