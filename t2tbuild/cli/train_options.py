"""Options of `t2tbuild train`: short forms of spec fields, and a run where a spec is expected."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import stderr
from t2tbuild.cli.continuing import continue_command, start_again_command
from t2tbuild.cli.data_changes import data_changes
from t2tbuild.cli.options import image_size_override
from t2tbuild.cli.spec import open_spec
from t2tbuild.errors import InputError
from t2tbuild.files import exists, is_dir, is_file

if TYPE_CHECKING:
    from t2tbuild.spec import Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.spec.overrides import Override

Epochs = Annotated[str | None, typer.Option(metavar="N", help="train.epochs.")]
BatchSize = Annotated[str | None, typer.Option(metavar="N", help="train.batch_size, over all devices.")]
LearningRate = Annotated[str | None, typer.Option(metavar="X", help="train.lr, the peak learning rate.")]
TrainImageSize = Annotated[
    str | None, typer.Option(metavar="SIDE", help="Size of the images: 96, or 192x256 (height x width).")
]
WeightsOption = Annotated[
    str | None, typer.Option(metavar="FILE|RUN", help="Initial weights: a file, a run, released, or hf-hub:ORG/NAME.")
]
Seed = Annotated[str | None, typer.Option(metavar="N", help="train.seed.")]
Gpus = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Train on N GPUs of this machine; with --device cpu, in N processes."),
]

FIELDS = {
    "--epochs": "train.epochs",
    "--batch-size": "train.batch_size",
    "--lr": "train.lr",
    "--image-size": "train.data.image_size",
    "--weights": "weights",
    "--seed": "train.seed",
}
"""The field of the spec that each option sets."""


@dataclass(frozen=True)
class Training:
    """What a command trains: the spec, and its run directory, None for a new one."""

    document: Document[Spec]
    run: Path | None


def open_training(
    text: str,
    overrides: Sequence[str],
    data: str | None,
    options: Mapping[str, str | None],
    out: Path | None,
    *,
    quiet: bool = False,
) -> Training:
    """Return the training of a spec, or of a run that is named in place of a spec.

    A run without changes is continued in its directory. With changes, or another `out`, its spec is trained further in
    a new run directory, from its weights. `options` has the values of `FIELDS`. A `quiet` process leaves warnings and
    notices to another one.
    """
    run = find_run(text)
    if run is None:
        return Training(open_with_options(text, overrides, data, options, quiet=quiet), out)
    spec = str(run / "spec.yaml")
    if (run / "best.yaml").exists():
        best = shlex.quote(str(run / "best.yaml"))
        raise InputError(f"{text}: the run of a search; its best model is trained by: t2tbuild train {best}")
    changed = bool(overrides or data is not None or any(value is not None for value in options.values()))
    if not changed and (out is None or out.resolve() == run.resolve()):
        if _is_complete(run) and not quiet:
            stderr().print(f"to train it longer: t2tbuild train {shlex.quote(text)} --epochs N", soft_wrap=True)
        return Training(open_with_options(spec, (), None, options, quiet=quiet), run)
    if out is not None and out.resolve() == run.resolve():
        raise InputError(f"--out {out}: a run keeps its spec; leave --out out, or choose another, to train {text} on")
    if options["--weights"] is None:
        options = {**options, "--weights": str(_require_checkpoint(text, run))}
        if not quiet:
            stderr().print(_describe_new_run(text, run), soft_wrap=True)
    return Training(open_with_options(spec, overrides, data, options, quiet=quiet), out)


def _describe_new_run(text: str, run: Path) -> str:
    new = f"a new run with the spec and the weights of {text}"
    if _is_complete(run):
        return new
    return f"{new} (it is unfinished; as it is it continues by: t2tbuild train {shlex.quote(text)})"


def find_run(text: str) -> Path | None:
    """Return the run directory that stands in place of a spec, None if it is the name or path of a spec."""
    from t2tbuild.spec import catalog

    folder = Path(text)
    is_run = is_file(folder / "spec.yaml") and (is_dir(folder / "checkpoints") or is_file(folder / "environment.json"))
    return folder if is_run and catalog.file_of(text) is None else None


def continue_training_command(run: Path, spec: Spec, more: Sequence[str]) -> str:
    """Return the command that continues a run from any folder; `more` are options that its spec does not hold."""
    if not (run / "spec.yaml").exists():
        return start_again_command()
    assert spec.train is not None
    return continue_command(["train"], run, spec.train.data, more)


def open_with_options(
    text: str,
    overrides: Sequence[str],
    data: str | None,
    options: Mapping[str, str | None],
    *,
    evaluation: bool = False,
    quiet: bool = False,
) -> Document[Spec]:
    """Read a spec with the data of --data, then the overrides, then the options of `FIELDS`; warnings go to stderr.

    An `evaluation` needs no training images, see `data_overrides`. A `quiet` command prints no warnings.
    """
    from t2tbuild.spec.load import read_spec

    changes: list[str | Override] = []
    if data is not None:
        train = read_spec(text).spec.train
        changes += data_changes(data, None if train is None else train.data, evaluation=evaluation)
    changes += overrides
    changes += [_as_override(name, value) for name, value in options.items() if value is not None]
    return read_spec(text, changes) if quiet else open_spec(text, changes)


def _as_override(option: str, value: str) -> Override:
    """Return the override of an option of `FIELDS`. Raises InputError for weights that do not exist."""
    from t2tbuild.spec.overrides import Override
    from t2tbuild.spec.weights import LOCAL_DIR, is_remote

    written = value
    if option == "--weights":
        if not is_remote(value) and not exists(Path(value.removeprefix(LOCAL_DIR))):
            raise InputError(f"--weights {value}: no such file or folder; name a file of weights or a run directory")
        written = json.dumps(value)
    elif option == "--image-size":
        written = image_size_override(value)[0].partition("=")[2]
    return Override(f"{FIELDS[option]}={written}", f"{option} {value}")


def _require_checkpoint(text: str, run: Path) -> Path:
    """Return the run, whose weights a new training starts from. Raises InputError if it has saved none."""
    from t2tbuild.weights.resolve import resolve_weights

    if resolve_weights(run).checkpoint is None:
        raise InputError(
            f"{text}: no checkpoint yet, so no weights to start from; continue it by: t2tbuild train {text}"
        )
    return run.absolute()


def _is_complete(run: Path) -> bool:
    from t2tbuild.training.run_directory import read_json_lines

    return any(record.get("event") == "result" for record in read_json_lines(run / "metrics.jsonl"))
