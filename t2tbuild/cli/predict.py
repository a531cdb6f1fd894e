"""t2tbuild predict: the classes of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.options import Device, Json, complete_spec_name
from t2tbuild.cli.spec import is_override, open_spec
from t2tbuild.cli.weights import choose_weights
from t2tbuild.cli.write import check_plot_path, report_write_errors
from t2tbuild.errors import InputError
from t2tbuild.files import atomic_write, short_path
from t2tbuild.spec.units import plural

if TYPE_CHECKING:
    from t2tbuild.training.prediction import Classifier, Predictions

MAX_TOP = 1000
UNREADABLE_SHOWN = 20


def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SPEC|FILE",
            help="A run, a spec with weights, or an exported file: .onnx, .pt2, .xml.",
            autocompletion=complete_spec_name,
        ),
    ],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE|FOLDER...", help="Images, or folders of images at any depth; also KEY=VALUE."),
    ],
    top: Annotated[int, typer.Option(min=1, max=MAX_TOP, help="Classes of each image, the most probable first.")] = 5,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A checkpoint, safetensors or run; by default the run's or the spec's."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=2**16, help="Images that go through the model together.")
    ] = None,
    device: Device = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a row for each image: .csv.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw a contact sheet with the predictions: .png.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict the classes of images, with the preprocessing of the training's evaluation.

    Images that cannot be read are listed and left out; the exit code is then 1.

    Example: t2tbuild predict runs/photos holiday/ --csv holiday.csv --sheet holiday.png
    """
    check_plot_path("--csv", csv, (".csv",))
    check_plot_path("--sheet", sheet)
    overrides = [one for one in images if is_override(one)]

    from t2tbuild.training.image_paths import find_images

    named = find_images([one for one in images if one not in overrides])
    if named.notice:
        stderr().print(named.notice, soft_wrap=True)
    classifier = _open(model, overrides, weights, device)
    found = _predict(classifier, named.paths, top, batch_size, with_pixels=sheet is not None)
    _print(found, as_json=as_json)
    if csv is not None:
        from t2tbuild.report.prediction_table import predictions_csv

        with report_write_errors("--csv", csv):
            atomic_write(csv, predictions_csv(found))
        stderr().print(f"written: {csv}", soft_wrap=True)
    if sheet is not None:
        from t2tbuild.report.figure import save_figure
        from t2tbuild.report.prediction_table import draw_sheet

        with report_write_errors("--sheet", sheet):
            save_figure(draw_sheet(found), sheet)
        stderr().print(f"written: {sheet}", soft_wrap=True)
    if found.unreadable:
        raise typer.Exit(1)


def _open(model: str, overrides: list[str], weights: str | None, device: str | None) -> Classifier:
    """Open the model. Raises errors of the spec and of missing weights before torch is imported."""
    from t2tbuild.weights.exported import is_exported
    from t2tbuild.weights.resolve import missing_weights

    if is_exported(model):
        if overrides:
            raise InputError(f"{overrides[0]}: {model} is an exported file, which has no fields to change")

        from t2tbuild.training.prediction import open_classifier

        return open_classifier(model, weights=weights, device=device)
    document = open_spec(model, overrides)
    source = choose_weights(model, document.spec, weights)
    if source is None:
        raise missing_weights(model, "predict with")

    from t2tbuild.training.prediction import TorchClassifier

    with document.located_errors():
        return TorchClassifier(document.spec, source, device=device)


def _predict(
    classifier: Classifier, paths: tuple[str, ...], top: int, batch_size: int | None, *, with_pixels: bool
) -> Predictions:
    """Predict with a bar on a terminal, and a line every ten seconds elsewhere."""
    from t2tbuild.cli.progress import ImageProgress
    from t2tbuild.report.prediction_table import choose_for_sheet
    from t2tbuild.training.prediction import predict_images

    kept = choose_for_sheet(len(paths)) if with_pixels else ()
    with ImageProgress(stderr()) as progress:
        return predict_images(classifier, paths, top, batch_size, keep_pixels=kept, on_progress=progress.update)


def _print(found: Predictions, *, as_json: bool) -> None:
    """Print the predictions on stdout, and on stderr what the names are and which images cannot be read."""
    from t2tbuild.report.prediction_table import prediction_table, predictions_json

    if as_json:
        print_json(predictions_json(found))
    else:
        stdout().print(prediction_table(found))
    if found.names_from == "ImageNet-1k":
        message = "the model has no names of its own; as it has 1000 classes, those of ImageNet-1k are shown"
        stderr().print(message, soft_wrap=True)
    if found.unreadable:
        stderr().print(f"{plural(len(found.unreadable), 'image')} cannot be read:", soft_wrap=True)
        for one in found.unreadable[:UNREADABLE_SHOWN]:
            stderr().print(f"  {short_path(str(one))}", soft_wrap=True)
        if len(found.unreadable) > UNREADABLE_SHOWN:
            more = len(found.unreadable) - UNREADABLE_SHOWN
            stderr().print(f"  and {more:,} more; --json or --csv FILE lists all", soft_wrap=True)
