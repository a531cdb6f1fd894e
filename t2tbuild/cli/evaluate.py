"""t2tbuild evaluate: how good trained weights are."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.options import Json, Overrides, SpecArgument
from t2tbuild.errors import InputError

if TYPE_CHECKING:
    from t2tbuild.spec import Spec
    from t2tbuild.spec.weights import Weights


class Split(StrEnum):
    """Which images are looked at."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def evaluate(
    spec: SpecArgument,
    overrides: Overrides = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="A checkpoint, safetensors, a run; else the run's or the spec's.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="digits, cifar10, cifar100, or a folder of val/CLASS/*.jpg or CLASS/*.jpg."),
    ] = None,
    split: Annotated[Split, typer.Option(help="The images to look at.")] = Split.TEST,
    trained: Annotated[
        bool, typer.Option("--trained", help="Of a run that averages weights, those as they were trained.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Top-1, top-5, loss and the accuracy of every class of a run, or of a spec with weights.

    Example: t2tbuild evaluate t2t_vit_14 --weights 81.5_T2T_ViT_14.pth.tar --data /data/imagenet
    """
    if trained and weights is not None:
        raise InputError("--trained is of a run, and --weights names others; leave one of them out")
    from t2tbuild.spec.load import read_spec  # whose warnings are of training

    run = Path(spec).parent if Path(spec).name == "spec.yaml" else Path(spec)
    run_spec = run / "spec.yaml"
    document = read_spec(run_spec if run_spec.is_file() else spec, overrides or ())
    if data is not None:
        of_data = _of_data(data, document.spec)
        document = read_spec(run_spec if run_spec.is_file() else spec, [*(overrides or ()), *of_data])
    source = _source(document.spec, run, weights, trained=trained)

    from t2tbuild.training.resolve import locate, resolve

    with document.placing():
        locate(resolve(document.spec))  # its errors come before torch

    from rich.progress import Progress

    from t2tbuild.report.evaluation_table import score_table
    from t2tbuild.training.evaluate import score

    console = stderr()
    with document.placing(), Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("images")
        found = score(document.spec, source, split.value, lambda done, of: bar.update(task, completed=done, total=of))
    if as_json:
        print_json(vars(found) | {"classes": {one.name: one.accuracy for one in found.classes}})
    else:
        stdout().print(score_table(found))


def _of_data(data: str, spec: Spec) -> list[str]:
    """The overrides that an option --data stands for; how images are made ready stays as the spec's folder has it."""
    import json

    from t2tbuild.spec.data import FolderData, data_root

    if data in ("digits", "cifar10", "cifar100"):
        return [f"train.data={{kind: {data}}}"]
    root = data_root(data).absolute()
    validation = "val" if (root / "val").is_dir() else "."
    train = "train" if (root / "train").is_dir() else validation  # an evaluation needs no training images
    splits = {"root": str(root), "train": train, "validation": validation, "test": None}
    if spec.train is not None and isinstance(spec.train.data, FolderData):
        return [f"train.data.{field}={json.dumps(value)}" for field, value in splits.items()]
    return [f"train.data={json.dumps({'kind': 'folder', **splits})}"]


def _source(spec: Spec, run: Path, named: str | None, *, trained: bool) -> Weights:
    """The weights that are meant: those named, a run's newest, or the spec's own."""
    from t2tbuild.spec.weights import Weights

    if trained:
        return Weights(file=str(_newest(run) / "trained.safetensors"))
    if named is not None:
        return Weights(file=named)
    if (run / "checkpoints").is_dir():
        from t2tbuild import manifest

        newest, broken = manifest.latest_valid(run / "checkpoints", ("model.safetensors",))
        for message in broken:
            stderr().print(f"broken, so an earlier checkpoint is evaluated: {message}", soft_wrap=True)
        return Weights(file=str(newest or run))
    if spec.weights is None:
        raise InputError("there is nothing to evaluate: name a run, or add --weights FILE")
    return spec.weights


def _newest(run: Path) -> Path:
    from t2tbuild import manifest

    newest, _ = manifest.latest_valid(run / "checkpoints", ("model.safetensors",))
    if newest is None or not (newest / "trained.safetensors").exists():
        raise InputError(f"--trained: {run} is no run that averages weights; leave the option out")
    return newest
