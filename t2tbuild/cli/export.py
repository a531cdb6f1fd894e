"""t2tbuild export: write a model with its weights for other programs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.export_family import FOLDER, FamilyOptions, export_family, require_alone
from t2tbuild.cli.options import DataOption, Force, Json, Overrides, SpecArgument
from t2tbuild.cli.train_options import open_with_options
from t2tbuild.cli.weights import WEIGHTS_HELP, choose_weights
from t2tbuild.errors import InputError
from t2tbuild.weights.formats import Format, export_size

if TYPE_CHECKING:
    from torch import nn

    from t2tbuild.spec import Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.spec.label_names import LabelMap
    from t2tbuild.spec.weights import Weights
    from t2tbuild.training.calibration import QuantizedAccuracy

CALIBRATION_IMAGES = 200
MAX_DROP = 1.0  # points


@dataclass(frozen=True)
class _Options:
    """How the graph is written."""

    preprocess: bool
    half: bool
    int8: bool
    calibration_images: int
    max_drop: float


def export(
    spec: SpecArgument,
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write; for timm, a folder. With --budgets a folder, by default RUN/family."),
    ] = None,
    overrides: Overrides = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help=WEIGHTS_HELP),
    ] = None,
    kind: Annotated[
        Format | None, typer.Option("--format", help="Format of the file; by default that of its suffix.")
    ] = None,
    preprocess: Annotated[
        bool,
        typer.Option(
            "--preprocess",
            help="Resize, crop and normalise inside the graph; its input is then bytes (batch, height, width, 3).",
        ),
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Weights in float16; input and output stay float32.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit integers, calibrated on the data; needs them, as training does.")
    ] = False,
    calibration_images: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help=f"Training images for --int8.  [default: {CALIBRATION_IMAGES}]"),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="POINTS", help=f"Largest loss of validation accuracy for --int8.  [default: {MAX_DROP:g}]"
        ),
    ] = None,
    data: DataOption = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            metavar="COUNTS", help="Write the best member of a run's supernet within each of these MACs: 1G,2G."
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a model with its weights for other programs, then load it again and compare its logits with torch's.

    Example: t2tbuild export t2t_vit_14 --weights released --out t2t_vit_14.onnx

    Example: t2tbuild export runs/family --budgets 1G,2G,5G --format onnx
    """
    if budgets is not None:
        require_alone(
            {
                "KEY=VALUE": overrides,
                "--weights": weights,
                "--int8": int8,
                "--calibration-images": calibration_images,
                "--max-drop": max_drop,
                "--data": data,
            }
        )
        kind = kind or Format.SAFETENSORS
        _check_options(kind, preprocess=preprocess, half=half, int8=int8)
        family = FamilyOptions(out or Path(spec) / FOLDER, kind, preprocess=preprocess, half=half, force=force)
        export_family(spec, budgets, family, as_json=as_json)
        return
    if out is None:
        raise InputError("--out is missing: the file to write, for example --out model.onnx")

    from t2tbuild.weights.resolve import describe_untrained

    kind = kind or Format.of(out)
    kind.require(out)
    _check_options(kind, preprocess=preprocess, half=half, int8=int8)
    if not int8 and (calibration_images is not None or max_drop is not None):
        option = "--max-drop" if calibration_images is None else "--calibration-images"
        raise InputError(f"{option} is for --int8; add --int8, or leave {option} out")
    kind.require_new(out, force=force)
    options = _Options(
        preprocess,
        half,
        int8,
        CALIBRATION_IMAGES if calibration_images is None else calibration_images,
        MAX_DROP if max_drop is None else max_drop,
    )
    document = open_with_options(spec, overrides or (), data, {})
    source = choose_weights(spec, document.spec, weights)
    if source is None and (hint := describe_untrained(spec)):
        stderr().print(hint, soft_wrap=True)
    named = _with_names(document.spec, source)
    with document.located_errors():
        difference, accuracy = _export(document, named, source, out, kind, options)
    record = _describe(named.model.name, out, kind, options, difference, accuracy)
    if as_json:
        print_json(record)
        return
    if accuracy is not None:
        stdout().print(
            f"accuracy on {accuracy.images} validation images: {accuracy.before:.1%} in float32, {accuracy.after:.1%} "
            "in int8",
            soft_wrap=True,
        )
    how = f"{kind}, {record['precision']}" if record["precision"] != "float32" else f"{kind}"
    inside = ", preprocessing inside" if preprocess else ""
    stdout().print(
        f"{named.model.name}: written to {out} as {how}{inside}, {record['bytes'] / 1e6:.1f} MB; loaded again, its "
        f"logits on two photographs differ from torch's by {difference:.1e}, relative",
        soft_wrap=True,
    )


def _check_options(kind: Format, *, preprocess: bool, half: bool, int8: bool) -> None:
    """Raise InputError for options that do not fit the format, or each other."""
    whole = [one for one in Format if one.is_whole_model]
    for option, given, formats in (
        ("--preprocess", preprocess, whole),
        ("--half", half, whole),
        ("--int8", int8, [Format.ONNX, Format.OPENVINO]),
    ):
        if given:
            kind.require_option(option, formats)
    if half and int8:
        raise InputError("--half and --int8 are two precisions; leave one of them out")


def _with_names(spec: Spec, source: Weights | None) -> Spec:
    """Return a spec with the names of the classes beside its weights, where it has none itself."""
    from t2tbuild.spec.with_changes import with_changes
    from t2tbuild.training.resolve import choose_label_names

    names = None if source is None else choose_label_names(spec, source)
    if names is None or names == spec.model.label_names or len(names) != spec.model.num_classes:
        return spec
    return spec.model_copy(update={"model": with_changes(spec.model, {"label_names": names}, "exported")})


def _export(
    document: Document[Spec], named: Spec, source: Weights | None, out: Path, kind: Format, options: _Options
) -> tuple[float, QuantizedAccuracy | None]:
    """Write the file; return the difference of its logits, and the accuracies of 8-bit integers."""
    labels_of = None
    if options.int8:
        named, labels_of = _resolve_for_int8(document, source)

    import torch

    from t2tbuild.build import build_model
    from t2tbuild.training.calibration import Calibration
    from t2tbuild.training.preprocessing import complete_data, find_preprocessing
    from t2tbuild.weights.export import export_model
    from t2tbuild.weights.load import load_spec_weights

    torch.manual_seed(0)
    model: nn.Module = build_model(named.model)
    if source is None:
        stderr().print("no weights given: exporting a randomly initialised model (seed 0)", soft_wrap=True)
    else:
        stderr().print(f"weights of {source.file}", soft_wrap=True)
        load_spec_weights(model, source)
        named = complete_data(named, document.before or document.spec, source, model)
    steps = find_preprocessing(named, source, model.eval())
    calibration = None
    if options.int8:
        calibration = Calibration(named, labels_of, images=options.calibration_images, max_drop=options.max_drop)
    difference = export_model(
        named.model,
        model,
        out,
        kind,
        preprocessing=replace(steps, inside=options.preprocess),
        half=options.half,
        int8=None if calibration is None else calibration.int8(model),
    )
    return difference, None if calibration is None else calibration.accuracy


def _resolve_for_int8(document: Document[Spec], source: Weights | None) -> tuple[Spec, LabelMap | None]:
    """Return the spec with its recipe, and the class of each label. Raises InputError without weights or data."""
    if source is None:
        raise InputError("--int8 needs trained weights, to compare the accuracy; name a run, or add --weights FILE")
    if document.spec.train is None:
        raise InputError(f"--int8 needs the data of {document.spec.model.name}; name a run, or add --data DIR")
    from t2tbuild.training.resolve import choose_label_names, resolve_evaluation

    return resolve_evaluation(document.spec, choose_label_names(document.spec, source))


def _describe(
    name: str, out: Path, kind: Format, options: _Options, difference: float, accuracy: QuantizedAccuracy | None
) -> dict[str, Any]:
    """Return what was written as plain data."""
    return {
        "name": name,
        "path": str(out),
        "format": str(kind),
        "precision": "int8" if options.int8 else "float16" if options.half else "float32",
        "preprocessing_inside": options.preprocess,
        "bytes": export_size(out),
        "difference": difference,
        "accuracy": None
        if accuracy is None
        else {"images": accuracy.images, "float32": accuracy.before, "int8": accuracy.after},
    }
