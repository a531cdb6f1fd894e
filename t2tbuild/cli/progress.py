"""Show the progress of a training: a bar with ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from t2tbuild.cli.console import format_duration
from t2tbuild.spec.units import plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from t2tbuild.spec import Spec
    from t2tbuild.training import EpochReport, Notice, StepReport

WARMUP_STEPS = 3  # steps before the rate is measured
FORECAST_SECONDS = 10.0  # seconds of steps before the duration of the training is forecast
IMAGE_INTERVAL = 10.0  # seconds between plain lines while images go through a model
PRINT_INTERVAL = 60.0  # seconds between plain lines within an epoch


class TrainingProgress:
    """Print the reports of a training; only the main rank is `enabled`."""

    def __init__(self, console: Console, spec: Spec, *, enabled: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console, self.spec, self.enabled = console, spec, enabled
        self.steps_seen, self.first_step, self.forecast_printed = 0, 0, False
        self.warm_at = self.line_at = self.epoch_at = time.monotonic()
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.is_terminal),
        )
        self.task = self.bar.add_task("train", total=None, epoch="1", rate="")

    def __enter__(self) -> TrainingProgress:
        if self.enabled:
            _print_model(self.console, self.spec)
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, report: StepReport | EpochReport | Notice) -> None:
        """Show a report of the training."""
        from t2tbuild.training.reports import EpochReport, StepReport

        if not self.enabled:
            return
        match report:
            case StepReport():
                self._update_step(report)
            case EpochReport():
                self._print_epoch(report)
            case _:
                self.bar.console.print(report.text, soft_wrap=True)

    def _update_step(self, report: StepReport) -> None:
        now, done = time.monotonic(), report.epoch * report.steps + report.step
        self.steps_seen += 1
        if self.steps_seen == 1:
            self.epoch_at = now
        if self.steps_seen == WARMUP_STEPS:
            self.warm_at, self.first_step = now, done
        elapsed = now - self.warm_at
        rate = (done - self.first_step) / elapsed if self.steps_seen > WARMUP_STEPS and elapsed else 0.0
        total, speed = report.epochs * report.steps, f"{rate * report.images:,.0f} images/s" if rate else ""
        place = f"{report.epoch + 1}/{report.epochs}"
        self.bar.update(self.task, total=total, completed=done, epoch=place, rate=speed)
        if rate and not self.forecast_printed and (elapsed > FORECAST_SECONDS or report.step == report.steps):
            self.forecast_printed = True
            forecast = (
                f"forecast: {_format_hours((total - done) / rate)} for {plural(report.epochs, 'epoch')} at {speed}"
            )
            self.bar.console.print(f"{forecast}, without evaluations")
        if rate and not self.console.is_terminal and now - self.line_at > PRINT_INTERVAL:
            self.line_at = now
            self.bar.console.print(
                f"epoch {place}  step {report.step}/{report.steps}  {speed}  ETA {_format_hours((total - done) / rate)}"
            )

    def _print_epoch(self, report: EpochReport) -> None:
        now = time.monotonic()
        remain = report.epochs - report.epoch
        left = f"  ETA {_format_hours((now - self.epoch_at) * remain)}" if remain else ""
        self.epoch_at = now
        self.bar.console.print(
            f"epoch {report.epoch}/{report.epochs}  loss {report.train_loss:.3f}  validation loss "
            f"{report.validation_loss:.3f}  accuracy {report.validation_accuracy:.1%}  "
            f"{report.images_per_second:,.0f} images/s  {report.memory / 1e9:.1f} GB{left}"
        )


class ReadingProgress:
    """A bar with ETA on a terminal while the images of splits are read."""

    def __init__(self, console: Console) -> None:
        from rich.progress import Progress

        self.bar = Progress(console=console, disable=not console.is_terminal, transient=True)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ReadingProgress:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, split: str, done: int, total: int) -> None:
        """Show the number of images of a split that are read."""
        if split not in self.tasks:
            self.tasks[split] = self.bar.add_task(f"reading {split} images")
        self.bar.update(self.tasks[split], completed=done, total=total)


class ImageProgress:
    """A bar with ETA on a terminal while images go through a model; elsewhere a line every ten seconds."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console, self.started = console, time.monotonic()
        self.printed_at = self.started
        self.bar = Progress(
            TextColumn("images"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("images", total=None)

    def __enter__(self) -> ImageProgress:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, done: int, total: int) -> None:
        """Show the number of images that are done."""
        self.bar.update(self.task, completed=done, total=total)
        now = time.monotonic()
        if self.console.is_terminal or done == total or now - self.printed_at < IMAGE_INTERVAL:
            return
        self.printed_at = now
        left = (now - self.started) * (total - done) / done
        self.console.print(f"{done:,} of {plural(total, 'image')}  ETA {_format_hours(left)}", soft_wrap=True)


def _print_model(console: Console, spec: Spec) -> None:
    """Print the model and its training data."""
    from t2tbuild.cost.counter import known_cost
    from t2tbuild.report.cost_table import cost_table
    from t2tbuild.spec.label_names import list_names
    from t2tbuild.spec.model import ModelSpec

    assert spec.train is not None
    names = spec.model.label_names
    classes = plural(spec.model.num_classes, "class") + (f" ({list_names(names)})" if names else "")
    if isinstance(spec.model, ModelSpec):
        console.print(cost_table(spec, known_cost(spec.model)))
    console.print(
        f"{spec.model.name} on {spec.train.data.kind}: {spec.model.image} pixels, {classes}, "
        f"{plural(spec.train.all_epochs, 'epoch')} in batches of {spec.train.batch_size}"
    )


def _format_hours(seconds: float) -> str:
    return format_duration(seconds) if seconds < 3600 else f"{seconds / 3600:.1f} h"
