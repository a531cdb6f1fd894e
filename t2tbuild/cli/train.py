"""t2tbuild train: a spec in, a run directory out."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import minutes, print_json, stderr, stdout
from t2tbuild.cli.folder import require_folder
from t2tbuild.cli.options import Json, Overrides, SpecArgument
from t2tbuild.cli.spec import open_spec

if TYPE_CHECKING:
    from rich.console import Console

    from t2tbuild.train import EpochReport, TrainResult
    from t2tbuild.train.run import StepReport


def train(
    spec: SpecArgument,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The run directory; one that stopped early is continued.")] = None,
    as_json: Json = False,
) -> None:
    """Train a spec's model; without data named, on scikit-learn's handwritten digits at 64 pixels.

    Example: t2tbuild train specs/t2t_vit_7.yaml train.epochs=5 --out runs/first
    """
    require_folder(out)
    document = open_spec(spec, overrides)
    loaded = document.spec

    from t2tbuild.train.resolve import resolve

    with document.placing():
        resolve(loaded)  # its errors come before torch

    from t2tbuild.report.curves import plot_curves
    from t2tbuild.train.run import train as train_spec
    from t2tbuild.train.run_directory import default_folder

    run = out or default_folder(loaded.model.name)
    try:
        with document.placing(), _Progress(stderr()) as progress:
            result = train_spec(loaded, run, listener=progress.hear)
    except KeyboardInterrupt:
        command = shlex.join(["t2tbuild", "train", spec, *(overrides or ()), "--out", str(run)])
        stderr().print(f"interrupted; finished epochs are saved in {run}; continue with:\n{command}", soft_wrap=True)
        raise
    plot_curves(run)
    if as_json:
        print_json(vars(result) | {"run": str(result.run)})
    else:
        _print(result)


def _print(result: TrainResult) -> None:
    console = stdout()
    console.print(
        f"{result.name}: test accuracy {result.test_accuracy:.2%}, validation {result.validation_accuracy:.2%} after "
        f"{result.epochs} epochs in {minutes(result.seconds)} on {result.device}; run in {result.run}",
        soft_wrap=True,
    )
    console.print(f"next: t2tbuild summarize {shlex.quote(str(result.run / 'spec.yaml'))}", soft_wrap=True)


class _Progress:
    """A bar with ETA on a terminal, a line an epoch elsewhere."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console, self.started, self.first = console, time.monotonic(), 0
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("train", total=None, epoch="1")

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def hear(self, report: StepReport | EpochReport) -> None:
        from t2tbuild.train.run import EpochReport

        if not isinstance(report, EpochReport):
            total = report.epochs * report.steps
            self.bar.update(self.task, total=total, completed=report.epoch * report.steps + report.step)
            self.bar.update(self.task, epoch=f"{report.epoch + 1}/{report.epochs}")
            return
        self.first = self.first or report.epoch
        passed = time.monotonic() - self.started
        left = passed / (report.epoch - self.first + 1) * (report.epochs - report.epoch)
        self.bar.console.print(
            f"epoch {report.epoch}/{report.epochs}  loss {report.train_loss:.3f}  validation loss "
            f"{report.validation_loss:.3f}  accuracy {report.validation_accuracy:.1%}  "
            f"{report.images_per_second:.0f} images/s  ETA {minutes(left)}"
        )
