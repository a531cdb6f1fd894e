"""t2tbuild evaluate: the accuracy of trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.folder import require_folder
from t2tbuild.cli.options import DataOption, Device, Json, Overrides, SpecArgument, deprecated_option
from t2tbuild.cli.train_options import find_run, open_with_options
from t2tbuild.cli.weights import WEIGHTS_HELP, choose_weights
from t2tbuild.cli.write import report_write_errors
from t2tbuild.errors import InputError
from t2tbuild.files import short_path
from t2tbuild.spec.units import plural

if TYPE_CHECKING:
    from t2tbuild.spec import Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.spec.weights import Weights
    from t2tbuild.training.evaluate import WeightsEvaluation


class Split(StrEnum):
    """Splits of a dataset."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def evaluate(
    spec: SpecArgument,
    overrides: Overrides = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help=WEIGHTS_HELP),
    ] = None,
    data: DataOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write the confusion matrix and the worst mistakes, as tables and as pictures."
        ),
    ] = None,
    split: Annotated[
        Split, typer.Option(help="The split to evaluate; without test images, test is validation.")
    ] = Split.TEST,
    device: Device = None,
    no_ema: Annotated[
        bool, typer.Option("--no-ema", help="Evaluate the trained weights of a run that also averages them (EMA).")
    ] = False,
    trained: Annotated[bool, typer.Option("--trained", hidden=True)] = False,  # the old name of --no-ema
    as_json: Json = False,
) -> None:
    """Print top-1, top-5, loss, confusions and the accuracy of every class, of a run or of a spec with weights.

    Labels go by name where the model has label_names, as every run on a folder has. A file of t2tbuild export (.onnx,
    .pt2, .xml) is run by its runtime, on the CPU.

    Example: t2tbuild evaluate t2t_vit_14 --weights released --data /data/imagenet

    Example: t2tbuild evaluate flowers.onnx --data flowers/
    """
    require_folder(out)
    no_ema = bool(deprecated_option("--trained", trained, "--no-ema", no_ema))
    if no_ema and weights is not None:
        raise InputError("--no-ema needs the weights of a run, and --weights names others; leave one of them out")
    from t2tbuild.weights.exported import is_exported

    if is_exported(spec):
        if weights is not None or no_ema:
            raise InputError(
                f"{spec}: an exported file has its weights; leave {'--no-ema' if no_ema else '--weights'} out"
            )
        _report(_evaluate_exported(spec, overrides or (), data, split, device), out, as_json=as_json)
        return
    # quiet: the warnings are about training
    document = open_with_options(spec, overrides or (), data, {}, evaluation=True, quiet=True)
    source = _select_weights(spec, document.spec, weights, no_ema=no_ema)
    named = any(override.startswith("model.label_names") for override in overrides or ())
    resolved = _resolve(document, source, check_names=not named)
    if data is not None and split is not Split.TRAIN:
        with document.located_errors():
            _warn_of_training_images(weights or spec, resolved, split)
    _report(_evaluate(document, source, split, device), out, as_json=as_json)


def _report(found: WeightsEvaluation, out: Path | None, *, as_json: bool) -> None:
    """Print an evaluation, and write its tables and pictures to `out`."""
    if found.skipped:
        from t2tbuild.training.data_notices import describe_unreadable

        message = describe_unreadable(len(found.skipped), held_out=True)
        stderr().print(f"{message}: {'; '.join(map(short_path, found.skipped))}", soft_wrap=True)
    if as_json:
        from t2tbuild.report.evaluation_table import evaluation_json

        print_json(evaluation_json(found))
    else:
        from t2tbuild.report.evaluation_table import evaluation_table

        stdout().print(evaluation_table(found))
    if out is not None:
        from t2tbuild.report.confusion import write_evaluation

        with report_write_errors("--out", out):
            written = write_evaluation(found, out)
        stderr().print(f"written: {', '.join(map(str, written))}", soft_wrap=True)


def _resolve(document: Document[Spec], source: Weights, *, check_names: bool) -> Spec:
    """Return the resolved spec, and print the classes that the data lacks. Raises errors before torch is imported."""
    from t2tbuild.spec.label_names import list_names
    from t2tbuild.training.resolve import choose_label_names, require_same_label_names, resolve_evaluation

    if check_names:
        require_same_label_names(document.spec, source)
    with document.located_errors():
        resolved, labels = resolve_evaluation(document.spec, choose_label_names(document.spec, source))
    if labels is not None and labels.missing:
        present = len(labels.classes)
        lacks = f"the data lacks {len(labels.missing)} of the model's {plural(labels.num_classes, 'class')}"
        message = f"{lacks}: {list_names(labels.missing)}; the accuracy is that of the other {present}"
        stderr().print(message, soft_wrap=True)
    return resolved


def _warn_of_training_images(trained: str, resolved: Spec, split: Split) -> None:
    """Print a warning if some of the images of --data are those that the run `trained` was trained on."""
    from t2tbuild.spec.load import read_spec

    run = find_run(trained.removesuffix("/spec.yaml"))
    recipe = None if run is None else read_spec(str(run / "spec.yaml")).spec.train
    if recipe is None or resolved.train is None:
        return
    from t2tbuild.training.data.overlap import find_overlap

    images, trained_on = find_overlap(recipe.data, resolved.train.data, split.value)
    if trained_on:
        share = f"{trained_on:,} of the {plural(images, 'image')}"
        message = f"warning: the model was trained on {share}, so the accuracy is higher than on new images"
        stderr().print(message, soft_wrap=True)


def _evaluate(document: Document[Spec], source: Weights, split: Split, device: str | None) -> WeightsEvaluation:
    """Evaluate the weights, with a bar on a terminal."""
    from rich.progress import Progress

    from t2tbuild.training.evaluate import evaluate_weights

    console = stderr()
    with document.located_errors(), Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("images")
        return evaluate_weights(
            document.spec,
            source,
            split.value,
            lambda done, of: bar.update(task, completed=done, total=of),
            device=device,
            own=document.before,
        )


def _evaluate_exported(
    path: str, overrides: Sequence[str], data: str | None, split: Split, device: str | None
) -> WeightsEvaluation:
    """Evaluate an exported file, with a bar on a terminal."""
    if device not in (None, "cpu"):
        raise InputError(f"--device {device}: an exported file is evaluated on the CPU; leave the option out")
    from rich.progress import Progress

    from t2tbuild.cli.exported import open_exported_spec
    from t2tbuild.weights.exported import open_exported

    model = open_exported(path)
    document = open_exported_spec(path, model.info, overrides, data)

    from t2tbuild.training.evaluate import evaluate_exported

    console = stderr()
    with document.located_errors(), Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("images")
        return evaluate_exported(
            document.spec, model, split.value, lambda done, of: bar.update(task, completed=done, total=of)
        )


def _select_weights(text: str, spec: Spec, named: str | None, *, no_ema: bool) -> Weights:
    """Return the weights to evaluate: those of --weights, of the run, or of the spec."""
    from t2tbuild.spec.weights import Weights
    from t2tbuild.weights.resolve import missing_weights, resolve_weights

    if no_ema:
        source = resolve_weights(text)
        file = Path(source.file) / "trained.safetensors"
        if source.checkpoint is None or not file.exists():
            raise InputError(f"--no-ema: {source.run or text} is not a run with averaged weights; leave the option out")
        return Weights(file=str(file))
    weights = choose_weights(text, spec, named)
    if weights is None:
        raise missing_weights(text, "evaluate")
    return weights
