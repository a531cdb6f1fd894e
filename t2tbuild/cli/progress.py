"""What a training shows while it runs: a bar with ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from t2tbuild.cli.console import minutes

if TYPE_CHECKING:
    from rich.console import Console

    from t2tbuild.spec import Spec
    from t2tbuild.training import EpochReport, Notice, StepReport

SETTLED = 3  # steps after which the rate is one that lasts
SAMPLED = 10.0  # seconds of steps from which a whole training is forecast
LINE_EVERY = 60.0  # seconds between plain lines within an epoch


class TrainingProgress:
    """Listens to a training and shows it; `speaks` is whether this process is the one of its ranks that does."""

    def __init__(self, console: Console, spec: Spec, *, speaks: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console, self.spec, self.speaks = console, spec, speaks
        self.heard, self.first_step, self.forecast_given = 0, 0, False
        self.settled_at = self.line_at = self.epoch_at = time.monotonic()
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not (speaks and console.is_terminal),
        )
        self.task = self.bar.add_task("train", total=None, epoch="1", rate="")

    def __enter__(self) -> TrainingProgress:
        if self.speaks:
            _print_model(self.console, self.spec)
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def hear(self, report: StepReport | EpochReport | Notice) -> None:
        from t2tbuild.training.reports import EpochReport, StepReport

        if not self.speaks:
            return
        match report:
            case StepReport():
                self._step(report)
            case EpochReport():
                self._epoch(report)
            case _:
                self.bar.console.print(report.text, soft_wrap=True)

    def _step(self, report: StepReport) -> None:
        now, done = time.monotonic(), report.epoch * report.steps + report.step
        self.heard += 1
        if self.heard == 1:
            self.epoch_at = now
        if self.heard == SETTLED:
            self.settled_at, self.first_step = now, done
        passed = now - self.settled_at
        rate = (done - self.first_step) / passed if self.heard > SETTLED and passed else 0.0
        total, speed = report.epochs * report.steps, f"{rate * report.images:,.0f} images/s" if rate else ""
        place = f"{report.epoch + 1}/{report.epochs}"
        self.bar.update(self.task, total=total, completed=done, epoch=place, rate=speed)
        if rate and not self.forecast_given and (passed > SAMPLED or report.step == report.steps):
            self.forecast_given = True
            message = f"forecast: {_hours((total - done) / rate)} for {report.epochs} epochs at {speed}"
            self.bar.console.print(f"{message}, evaluations not counted")
        if rate and not self.console.is_terminal and now - self.line_at > LINE_EVERY:
            self.line_at = now
            self.bar.console.print(
                f"epoch {place}  step {report.step}/{report.steps}  {speed}  ETA {_hours((total - done) / rate)}"
            )

    def _epoch(self, report: EpochReport) -> None:
        now = time.monotonic()
        remain = report.epochs - report.epoch
        left = f"  ETA {_hours((now - self.epoch_at) * remain)}" if remain else ""
        self.epoch_at = now
        self.bar.console.print(
            f"epoch {report.epoch}/{report.epochs}  loss {report.train_loss:.3f}  validation loss "
            f"{report.validation_loss:.3f}  accuracy {report.validation_accuracy:.1%}  "
            f"{report.images_per_second:,.0f} images/s  {report.memory / 1e9:.1f} GB{left}"
        )


def _print_model(console: Console, spec: Spec) -> None:
    """What is about to be trained, on what."""
    from t2tbuild.cost import predict_cost
    from t2tbuild.report.cost_table import cost_table
    from t2tbuild.spec.model import ModelSpec

    assert spec.train is not None
    if isinstance(spec.model, ModelSpec):
        console.print(cost_table(spec, predict_cost(spec.model)))
    console.print(
        f"{spec.model.name} on {spec.train.data.kind}: {spec.model.image} pixels, {spec.model.num_classes} classes, "
        f"{spec.train.all_epochs} epochs in batches of {spec.train.batch_size}"
    )


def _hours(seconds: float) -> str:
    return minutes(seconds) if seconds < 3600 else f"{seconds / 3600:.1f} h"
