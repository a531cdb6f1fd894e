"""t2tbuild train: a spec in, a run directory out."""

from __future__ import annotations

import os
import shlex
import time
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import minutes, print_json, stderr, stdout
from t2tbuild.cli.folder import nearest_folder, require_folder
from t2tbuild.cli.loggers import Log, open_logger
from t2tbuild.cli.options import Json, Overrides, SpecArgument
from t2tbuild.cli.spec import open_spec
from t2tbuild.errors import InputError, TrainingError

if TYPE_CHECKING:
    from t2tbuild.cli.loggers import Logger
    from t2tbuild.spec.model import AnyModel
    from t2tbuild.training import TrainResult
    from t2tbuild.training.reports import Listener, Report


DRAW_EVERY = 60.0
"""Seconds between two drawings of curves.png while training goes on."""


class Resume(StrEnum):
    """What is done with a run that is there already."""

    AUTO = "auto"
    NEVER = "never"


def train(
    spec: SpecArgument,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The run directory; by default a new one below runs/.")] = None,
    resume: Annotated[
        Resume,
        typer.Option(help="auto: start, continue a run that stopped early, or say that it is complete. never: start."),
    ] = Resume.AUTO,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Take a few steps, read each split, save once, report; keep nothing."),
    ] = False,
    log: Annotated[
        list[Log] | None,
        typer.Option(help="Show epochs there, too; metrics.jsonl has them always."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a spec's model; without data named, on scikit-learn's handwritten digits at 64 pixels.

    Example: t2tbuild train specs/t2t_vit_7.yaml train.epochs=5 --out runs/first

    Several devices: torchrun --nproc-per-node 8 -m t2tbuild train SPEC --out RUN
    """
    require_folder(out)
    for one in log or ():
        one.require()
    if resume is Resume.NEVER and out is not None and (out / "spec.yaml").exists():
        raise InputError(f"--out {out}: holds a run already, and --resume never is for a new one")
    document = open_spec(spec, overrides)
    loaded = document.spec

    from t2tbuild.training.resolve import locate, resolve

    with document.placing():
        resolved = locate(resolve(loaded))  # its errors come before torch

    if dry_run and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--dry-run is for one process; start it without torchrun")
    if dry_run:
        from t2tbuild.report.dry_run_table import print_dry_run
        from t2tbuild.training.dry_run import dry_run_training

        with document.placing():
            found = dry_run_training(loaded, nearest_folder(out))
        if as_json:
            print_json(vars(found))
        else:
            print_dry_run(stdout(), found)
        return

    from t2tbuild.cli.progress import TrainingProgress
    from t2tbuild.training.distributed import started_together
    from t2tbuild.training.run import train as train_spec
    from t2tbuild.training.run_directory import default_folder

    first = int(os.environ.get("RANK", "0")) == 0
    run = out or default_folder(loaded.model.name)
    try:
        with ExitStack() as stack:
            stack.enter_context(document.placing())
            progress = stack.enter_context(TrainingProgress(stderr(), resolved, speaks=first))
            loggers = [open_logger(one, run, resolved) for one in log or () if first]
            for logger in loggers:
                stack.callback(logger.close)
            heard = _all(progress.hear, loggers, run, resolved.model, speaks=first)
            result = train_spec(loaded, run, listener=heard)
    except KeyboardInterrupt:
        if first:
            command = shlex.join(
                ["t2tbuild", "train", _anywhere(spec), *(overrides or ()), "--out", str(run.absolute()), *_logs(log)]
            )
            again = "the same torchrun command" if started_together() else f"\n{command}"
            stderr().print(f"interrupted; {_saved(run)}; continue with: {again}", soft_wrap=True)
        raise
    if not first:
        return
    if as_json:
        print_json(vars(result) | {"run": str(result.run)})
    else:
        _print(result)
    _plot(result.run)
    if result.unsaved:
        raise TrainingError(f"trained, but the last state is not on disk: {result.unsaved}")


def _all(show: Listener, loggers: list[Logger], run: Path, model: AnyModel, *, speaks: bool) -> Listener:
    """One who tells every report to the progress bar, and epochs to the loggers; long trainings are drawn meanwhile."""
    drawn_at, drawn = time.monotonic(), not speaks

    def hear(report: Report) -> None:
        nonlocal drawn_at, drawn
        from t2tbuild.training.reports import EpochReport, Notice

        show(report)
        if not drawn and not isinstance(report, Notice):  # of a step: the run directory is there
            _draw(model, run)
            drawn = True
        if not isinstance(report, EpochReport):
            return
        if speaks and time.monotonic() - drawn_at > DRAW_EVERY:
            _plot(run)
            drawn_at = time.monotonic()
        for logger in list(loggers):
            try:
                logger.hear(report)
            except Exception as error:  # a full disk, a service that is gone: the training matters more
                loggers.remove(logger)
                show(Notice(f"no more is logged to {type(logger).__name__.strip('_')}: {error}"))

    return hear


def _anywhere(spec: str) -> str:
    """A spec's path as it is understood from any folder; a shipped name stays."""
    from t2tbuild.spec import catalog

    return spec if catalog.file_of(spec) else str(Path(spec).absolute())


def _logs(log: list[Log] | None) -> list[str]:
    return [word for one in log or () for word in ("--log", one)]


def _saved(run: Path) -> str:
    """What is on disk of a run, in words."""
    from t2tbuild import manifest

    newest, _ = manifest.latest_valid(run / "checkpoints", ("model.safetensors",))
    return f"{newest} is saved" if newest else "nothing is saved yet"


def _plot(run: Path) -> None:
    """Draw curves.png; a disk that does not take it is told."""
    from t2tbuild.report.curves import plot_curves

    try:
        plot_curves(run)
    except OSError as error:
        stderr().print(f"{run / 'curves.png'} cannot be written: {error.strerror}", soft_wrap=True)


def _draw(model: AnyModel, run: Path) -> None:
    """Draw diagram.svg, the model as it is trained; a disk that does not take it is told."""
    from t2tbuild.report.diagram import write_diagram

    try:
        write_diagram(model, run / "diagram.svg")
    except OSError as error:
        stderr().print(f"{run / 'diagram.svg'} cannot be written: {error.strerror}", soft_wrap=True)


def _print(result: TrainResult) -> None:
    console = stdout()
    console.print(
        f"{result.name}: test accuracy {result.test_accuracy:.2%}, validation {result.validation_accuracy:.2%} after "
        f"{result.epochs} epochs in {minutes(result.seconds)} on {result.device}; run in {result.run}",
        soft_wrap=True,
    )
    if result.skipped:
        more = f" and {len(result.skipped) - 3} more" if len(result.skipped) > 3 else ""
        console.print(f"training images that could not be read: {', '.join(result.skipped[:3])}{more}", soft_wrap=True)
    console.print(f"next: t2tbuild summarize {shlex.quote(str(result.run / 'spec.yaml'))}", soft_wrap=True)
