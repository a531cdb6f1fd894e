"""t2tbuild train: train a model."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Never

import typer

from t2tbuild.cli.console import format_duration, print_json, stderr, stdout
from t2tbuild.cli.folder import existing_parent, require_run_folder
from t2tbuild.cli.loggers import LoggerKind, open_logger
from t2tbuild.cli.options import DataOption, Device, Json, Overrides, SpecArgument
from t2tbuild.cli.train_options import (
    BatchSize,
    Epochs,
    Gpus,
    LearningRate,
    Seed,
    TrainImageSize,
    WeightsOption,
    continue_training_command,
    open_training,
)
from t2tbuild.cli.weights import fetch_spec_weights
from t2tbuild.errors import InputError, TrainingError
from t2tbuild.files import short_path
from t2tbuild.spec.units import plural

if TYPE_CHECKING:
    from t2tbuild.cli.loggers import Logger
    from t2tbuild.spec import Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.spec.model import AnyModel
    from t2tbuild.training import TrainResult
    from t2tbuild.training.reports import Listener, Report


PLOT_INTERVAL = 60.0
"""Seconds between two updates of curves.png during a training."""


class Resume(StrEnum):
    """What to do if the run exists already."""

    AUTO = "auto"
    NEVER = "never"


def train(
    spec: SpecArgument,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The run directory; by default a new one in runs/.")] = None,
    data: DataOption = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    image_size: TrainImageSize = None,
    weights: WeightsOption = None,
    seed: Seed = None,
    device: Device = None,
    gpus: Gpus = None,
    resume: Annotated[
        Resume,
        typer.Option(help="auto: start a run, resume it, or report that it is complete. never: start a new one."),
    ] = Resume.AUTO,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Take a few steps, read each split, save once, and report; keep nothing."),
    ] = False,
    log: Annotated[
        list[LoggerKind] | None,
        typer.Option(help="Also log epochs to this tracker."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train the model of a spec; by default on scikit-learn's handwritten digits at 64 pixels.

    SPEC may also be a run directory: it is continued, or with other fields trained further in a new run directory.

    Example: t2tbuild train t2t_vit_7 --data photos --epochs 30 --image-size 96 --out runs/photos

    Several machines: torchrun --nproc-per-node 8 -m t2tbuild train SPEC --out RUN
    """
    require_run_folder(out)
    for one in log or ():
        one.check_installed()
    options = {
        "--epochs": epochs,
        "--batch-size": batch_size,
        "--lr": lr,
        "--image-size": image_size,
        "--weights": weights,
        "--seed": seed,
    }
    is_launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    launches = gpus is not None and gpus > 1 and not is_launched
    is_main = int(os.environ.get("RANK", "0")) == 0
    training = open_training(spec, overrides or (), data, options, out, quiet=launches or not is_main)
    document, out = training.document, training.run
    if resume is Resume.NEVER and out is not None and (out / "spec.yaml").exists():
        raise InputError(
            f"--out {out}: contains a run already, and --resume never needs a new folder; choose another --out"
        )

    from t2tbuild.training.resolve import resolve, resolve_files

    with document.located_errors():
        resolved = resolve_files(resolve(document.spec))  # raises errors before torch is imported
        if is_main and not (is_launched and gpus is not None):
            fetch_spec_weights(document.spec)

    if dry_run:
        if is_launched or gpus is not None:
            raise InputError("--dry-run runs in one process; start it without torchrun and without --gpus")
        _dry_run(document, out, device, as_json=as_json)
        return
    if gpus is not None and not is_launched:
        from t2tbuild.training.launch import require_gpus

        require_gpus(gpus, device)
    if gpus is not None and launches:
        with document.located_errors():
            _launch(gpus, resolved)

    from t2tbuild.training.device import pick_device
    from t2tbuild.training.run_paths import default_run_directory

    pick_device(device)  # raises errors before anything is printed
    run = out or default_run_directory(document.spec.model.name)
    try:
        result = _run(document, resolved, run, log or (), device, is_main=is_main)
    except KeyboardInterrupt:
        if is_main:
            _print_interrupted(run, resolved, log or (), device, gpus)
        raise
    if is_main:
        _finish(result, resolved, as_json=as_json)


def _dry_run(document: Document[Spec], out: Path | None, device: str | None, *, as_json: bool) -> None:
    """Take a few steps and print what was measured."""
    from t2tbuild.cli.progress import ReadingProgress
    from t2tbuild.report.dry_run_table import print_dry_run
    from t2tbuild.training.dry_run import dry_run_training

    with document.located_errors(), ReadingProgress(stderr()) as reading:
        found = dry_run_training(document.spec, existing_parent(out), reading.update, device=device)
    if as_json:
        print_json(vars(found))
    else:
        print_dry_run(stdout(), found)


def _run(
    document: Document[Spec],
    resolved: Spec,
    run: Path,
    log: Sequence[LoggerKind],
    device: str | None,
    *,
    is_main: bool,
) -> TrainResult:
    """Train with a progress bar, loggers and plots, which only the main rank has."""
    from t2tbuild.cli.progress import TrainingProgress
    from t2tbuild.training.run import train as train_spec

    with ExitStack() as stack:
        stack.enter_context(document.located_errors())
        progress = stack.enter_context(TrainingProgress(stderr(), resolved, enabled=is_main))
        loggers = [open_logger(one, run, resolved) for one in log if is_main]
        for logger in loggers:
            stack.callback(logger.close)
        listener = _make_listener(progress.update, loggers, run, resolved.model, enabled=is_main)
        return train_spec(document.spec, run, listener=listener, device=device)


def _print_interrupted(
    run: Path, resolved: Spec, log: Sequence[LoggerKind], device: str | None, gpus: int | None
) -> None:
    """Print what is saved, and the command that continues the training."""
    from t2tbuild.training.distributed import is_distributed_launch

    more = [word for one in log for word in ("--log", one)]
    more += ["--device", device] if device else []
    more += ["--gpus", str(gpus)] if gpus else []
    by_torchrun = is_distributed_launch() and gpus is None
    command = continue_training_command(run, resolved, more)
    resume_with = "the same torchrun command" if by_torchrun else f"\n{command}"
    stderr().print(f"interrupted; {_describe_saved(run)}; continue with: {resume_with}", soft_wrap=True)


def _finish(result: TrainResult, resolved: Spec, *, as_json: bool) -> None:
    """Print the result and draw the curves. Raises TrainingError if the last checkpoint could not be saved."""
    if as_json:
        print_json(vars(result) | {"run": str(result.run)})
    else:
        _print_result(result, resolved)
    _plot_curves(result.run)
    if result.unsaved:
        raise TrainingError(f"trained, but the last checkpoint could not be saved: {result.unsaved}")


def _make_listener(progress: Listener, loggers: list[Logger], run: Path, model: AnyModel, *, enabled: bool) -> Listener:
    """Return a listener that passes reports to the progress bar and epochs to the loggers, and updates plots."""
    plotted_at, has_diagram = time.monotonic(), not enabled

    def listen(report: Report) -> None:
        nonlocal plotted_at, has_diagram
        from t2tbuild.training.reports import EpochReport, Notice

        progress(report)
        if not has_diagram and not isinstance(report, Notice):  # the first step: the run directory exists
            _draw_diagram(model, run)
            has_diagram = True
        if not isinstance(report, EpochReport):
            return
        if enabled and time.monotonic() - plotted_at > PLOT_INTERVAL:
            _plot_curves(run)
            plotted_at = time.monotonic()
        for logger in list(loggers):
            try:
                logger.log_epoch(report)
            except Exception as error:  # a full disk or a lost service must not stop the training
                loggers.remove(logger)
                progress(Notice(f"logging to {type(logger).__name__.strip('_')} stopped: {error}"))

    return listen


def _launch(gpus: int, spec: Spec) -> Never:
    """Run this command in a process for each GPU, and exit."""
    from t2tbuild.spec.extension import consent
    from t2tbuild.training.launch import launch_ranks
    from t2tbuild.training.resolve import require_divisible_batch

    assert spec.train is not None
    require_divisible_batch(spec.train, gpus)
    # a rank may load what this process has loaded, and nothing that was changed since
    arguments = [one for one in sys.argv[1:] if one != consent.ALLOW_OPTION]
    raise typer.Exit(launch_ranks(gpus, arguments))


def _describe_saved(run: Path) -> str:
    """Describe the newest checkpoint of a run."""
    from t2tbuild.weights.resolve import resolve_weights

    newest = resolve_weights(run).checkpoint
    return f"{newest} is saved" if newest else "nothing is saved yet"


def _plot_curves(run: Path) -> None:
    """Draw curves.png; print a warning if it cannot be written."""
    from t2tbuild.report.curves import plot_curves

    try:
        plot_curves(run)
    except OSError as error:
        stderr().print(f"{run / 'curves.png'} cannot be written: {error.strerror}", soft_wrap=True)


def _draw_diagram(model: AnyModel, run: Path) -> None:
    """Draw diagram.svg of the model as trained; print a warning if it cannot be written."""
    from t2tbuild.report.diagram import write_diagram

    try:
        write_diagram(model, run / "diagram.svg")
    except OSError as error:
        stderr().print(f"{run / 'diagram.svg'} cannot be written: {error.strerror}", soft_wrap=True)


def _describe_accuracy(result: TrainResult) -> str:
    if result.test_accuracy is None:
        return f"validation accuracy {result.validation_accuracy:.2%}"
    return f"test accuracy {result.test_accuracy:.2%}, validation {result.validation_accuracy:.2%}"


def _print_result(result: TrainResult, resolved: Spec) -> None:
    console = stdout()
    console.print(
        f"{result.name}: {_describe_accuracy(result)} after {plural(result.epochs, 'epoch')} in "
        f"{format_duration(result.seconds)} on {result.device}; run in {result.run}",
        soft_wrap=True,
    )
    if result.skipped:
        more = f" and {len(result.skipped) - 3} more" if len(result.skipped) > 3 else ""
        named = "; ".join(map(short_path, result.skipped[:3])) + more
        console.print(f"{plural(len(result.skipped), 'training image')} cannot be read: {named}", soft_wrap=True)
    run = str(result.run)
    commands = [
        ["evaluate", run],
        ["predict", run, _example_images(resolved)],
        ["export", run, "--out", f"{run}/model.onnx"],
    ]
    console.print(f"next: {' && '.join(shlex.join(['t2tbuild', *one]) for one in commands)}", soft_wrap=True)


def _example_images(resolved: Spec) -> str:
    """Return the folder of the held-out images, or of all, to predict on; a placeholder for built-in data."""
    from t2tbuild.spec.data import CsvData, FolderData, data_root

    assert resolved.train is not None
    match resolved.train.data:
        case FolderData() as data:
            return str(data_root(data.root) / (data.test or data.validation or "."))
        case CsvData() as data:
            return str(data_root(data.root) if data.root else data_root(data.file).parent)
        case _:
            return "IMAGE.jpg"
