"""t2tbuild bench --formats, and bench of exported files: accuracy, latency, size and memory of each in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.export import CALIBRATION_IMAGES
from t2tbuild.cli.train_options import open_with_options
from t2tbuild.cli.weights import choose_weights
from t2tbuild.cli.write import report_write_errors
from t2tbuild.errors import InputError
from t2tbuild.spec.units import plural
from t2tbuild.weights.formats import Format

if TYPE_CHECKING:
    from torch import nn

    from t2tbuild.bench.formats import EagerModel, FormatsResult
    from t2tbuild.bench.timing import RoundProgress
    from t2tbuild.spec import Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.spec.label_names import LabelMap
    from t2tbuild.spec.weights import Weights
    from t2tbuild.weights.exported import ExportedModel

    Listener = Callable[[str | RoundProgress], None]
    Accuracy = Callable[[ExportedModel], tuple[float, int]]

SECONDS_PER_FILE = 10.0
NO_LIMIT = 100.0  # points that 8-bit integers may lose: the table shows how many


@dataclass(frozen=True)
class Variant:
    """A format with a precision; None is the built model in torch, without a file."""

    kind: Format | None
    half: bool = False
    int8: bool = False


VARIANTS = {
    "torch": Variant(None),
    "torch-export": Variant(Format.TORCH_EXPORT),
    "onnx": Variant(Format.ONNX),
    "onnx-half": Variant(Format.ONNX, half=True),
    "onnx-int8": Variant(Format.ONNX, int8=True),
    "openvino": Variant(Format.OPENVINO),
    "openvino-half": Variant(Format.OPENVINO, half=True),
    "openvino-int8": Variant(Format.OPENVINO, int8=True),
}
"""The variants of --formats by name, in the order of the table."""


@dataclass(frozen=True)
class FormatOptions:
    """The options of the benchmark."""

    batch_size: int
    threads: int | None
    seconds: float | None
    rounds: int
    plot: Path | None
    as_json: bool


def parse_variants(text: str) -> list[str]:
    """Return the variants of --formats: those that are named, or for `all` those whose packages are installed.

    Raises InputError for an unknown name, and for a named one without its packages.
    """
    names = list(VARIANTS) if text == "all" else [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in VARIANTS]:
        raise InputError(f"--formats: must be all, or some of {', '.join(VARIANTS)}, got {unknown[0]!r:.60}")
    found = []
    for name in dict.fromkeys(names):
        kind = VARIANTS[name].kind
        try:
            if kind is not None:
                kind.require(Path(f"model{kind.suffix}"))
        except InputError as error:
            if text != "all":
                raise InputError(f"--formats {name}: {str(error).partition(' needs ')[2]}") from None
            stderr().print(f"left out: {name}, which needs {str(error).partition(' needs ')[2]}", soft_wrap=True)
        else:
            found.append(name)
    return found


def bench_files(paths: Sequence[str], data: str | None, options: FormatOptions, listener: Listener) -> FormatsResult:
    """Benchmark exported files, with their accuracy on the images of --data."""
    short = [Path(path).name for path in paths]
    names = short if len({*short}) == len(short) else paths
    if len({*names}) != len(paths):
        raise InputError("bench: a file is named twice; name each once")
    files = {name: Path(path) for name, path in zip(names, paths, strict=True)}
    return _benchmark(files, None if data is None else lambda model: _accuracy_of_file(model, data), options, listener)


def bench_variants(
    text: str,
    overrides: Sequence[str],
    weights: str | None,
    data: str | None,
    variants: Sequence[str],
    options: FormatOptions,
    listener: Listener,
    *,
    named: bool,
) -> FormatsResult:
    """Export a run, or a spec with its weights, in each variant to a temporary folder, and benchmark the files.

    Without weights or data, 8-bit integers are left out. Raises InputError where the user has `named` them.
    """
    from t2tbuild.weights.resolve import find_spec

    document = open_with_options(find_spec(text), overrides, data, {}, quiet=True)
    source = choose_weights(text, document.spec, weights)
    has_data = document.spec.train is not None and source is not None
    if not has_data:
        why = "no weights" if source is None else "no data; name a run, or add --data DATA"
        quantized = [name for name in variants if VARIANTS[name].int8]
        if named and quantized:
            lacking = "weights" if source is None else "data"
            raise InputError(
                f"--formats {quantized[0]}: needs weights and data, and {document.spec.model.name} has no {lacking}; "
                "name a run, or add --weights FILE and --data DATA"
            )
        stderr().print(f"without accuracy and int8: {document.spec.model.name} has {why}", soft_wrap=True)
        variants = [name for name in variants if name not in quantized]
    with TemporaryDirectory() as folder, document.located_errors():
        resolved, labels_of = _resolve(document, source, has_data=has_data)
        built, resolved = _build(resolved, document.before or resolved, source)
        models = _export(resolved, built, labels_of, source, variants, Path(folder), listener)
        accuracy = accuracy_on(resolved) if has_data else None
        return _benchmark(models, accuracy, options, listener)


def report(result: FormatsResult, options: FormatOptions, title: str) -> None:
    """Print the table or its JSON, and write the picture."""
    from t2tbuild.report.formats_table import formats_json, formats_table, plot_formats

    images = "one image" if result.batch_size == 1 else f"{result.batch_size} images"
    title = f"{title}: {images}, on the CPU, {plural(result.threads, 'thread')}"
    if options.as_json:
        print_json(formats_json(result))
    else:
        stdout().print(formats_table(result, title=title))
    if options.plot is not None:
        with report_write_errors("--plot", options.plot):
            plot_formats(result, options.plot, title=title)
        stderr().print(f"written: {options.plot}", soft_wrap=True)


def _benchmark(
    models: Mapping[str, Path | EagerModel], accuracy: Accuracy | None, options: FormatOptions, listener: Listener
) -> FormatsResult:
    import torch

    from t2tbuild.bench.formats import benchmark_formats

    return benchmark_formats(
        models,
        batch_size=options.batch_size,
        threads=options.threads or torch.get_num_threads(),
        seconds=SECONDS_PER_FILE * len(models) if options.seconds is None else options.seconds,
        rounds=options.rounds,
        accuracy=accuracy,
        listener=listener,
    )


def _resolve(document: Document[Spec], source: Weights | None, *, has_data: bool) -> tuple[Spec, LabelMap | None]:
    """Return the spec with the classes of its weights, and the class of each label where they differ."""
    if source is None or not has_data:
        return document.spec, None
    from t2tbuild.training.resolve import choose_label_names, resolve_evaluation

    return resolve_evaluation(document.spec, choose_label_names(document.spec, source))


def _build(named: Spec, own: Spec, source: Weights | None) -> tuple[nn.Module, Spec]:
    """Return the built model with its weights, and the spec with the preprocessing of them; `own` has no --data."""
    import torch

    from t2tbuild.build import build_model
    from t2tbuild.training.preprocessing import complete_data
    from t2tbuild.weights.load import load_spec_weights

    torch.manual_seed(0)
    built = build_model(named.model)
    if source is None:
        return built, named
    load_spec_weights(built, source)
    return built, complete_data(named, own, source, built)


def _export(
    named: Spec,
    built: nn.Module,
    labels_of: LabelMap | None,
    source: Weights | None,
    variants: Sequence[str],
    folder: Path,
    listener: Listener,
) -> dict[str, Path | EagerModel]:
    """Write each variant into a folder, and return the files by their names; the torch model is without a file."""
    from t2tbuild.bench.formats import EagerModel
    from t2tbuild.training.calibration import Calibration
    from t2tbuild.training.preprocessing import find_preprocessing
    from t2tbuild.weights.export import export_model

    steps = find_preprocessing(named, source, built.eval())
    models: dict[str, Path | EagerModel] = {}
    for name in variants:
        one, int8 = VARIANTS[name], None
        if one.kind is None:
            models[name] = EagerModel(named.model.name, built, steps)
            continue
        listener(f"{name}: exporting")
        if one.int8:
            int8 = Calibration(named, labels_of, images=CALIBRATION_IMAGES, max_drop=NO_LIMIT).int8(built)
        models[name] = file = folder / f"{name}{one.kind.suffix}"
        export_model(named.model, built, file, one.kind, preprocessing=steps, half=one.half, int8=int8)
    return models


def accuracy_on(spec: Spec) -> Accuracy:
    """Return a function that measures the accuracy of a model on the validation images of a spec.

    The table is there to choose a format by, and test images choose nothing.
    """
    from t2tbuild.training.evaluate import evaluate_exported

    def accuracy(model: ExportedModel) -> tuple[float, int]:
        found = evaluate_exported(spec, model, "validation")
        return found.top1, found.images

    return accuracy


def _accuracy_of_file(model: ExportedModel, data: str) -> tuple[float, int]:
    from t2tbuild.cli.exported import open_exported_spec

    document = open_exported_spec(str(model.path), model.info, (), data)
    with document.located_errors():
        return accuracy_on(document.spec)(model)
