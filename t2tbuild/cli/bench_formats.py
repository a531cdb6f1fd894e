"""t2tbuild bench --formats, and bench of exported files: accuracy, latency, size and memory of each in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.train_options import open_with_options
from t2tbuild.cli.weights import choose_weights
from t2tbuild.cli.write import report_write_errors
from t2tbuild.errors import InputError
from t2tbuild.spec.units import plural
from t2tbuild.weights.formats import Format

if TYPE_CHECKING:
    from t2tbuild.bench.formats import FormatsResult
    from t2tbuild.bench.timing import RoundProgress
    from t2tbuild.spec import Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.spec.label_names import LabelMap
    from t2tbuild.spec.weights import Weights
    from t2tbuild.weights.exported import ExportedModel

    Listener = Callable[[str | RoundProgress], None]
    Accuracy = Callable[[ExportedModel], tuple[float, int]]

CALIBRATION_IMAGES = 200
SECONDS_PER_FILE = 10.0
NO_LIMIT = 100.0  # points that 8-bit integers may lose: the table shows how many


@dataclass(frozen=True)
class Variant:
    """A format with a precision."""

    kind: Format
    half: bool = False
    int8: bool = False


VARIANTS = {
    "torch-export": Variant(Format.TORCH_EXPORT),
    "onnx": Variant(Format.ONNX),
    "onnx-half": Variant(Format.ONNX, half=True),
    "onnx-int8": Variant(Format.ONNX, int8=True),
    "openvino": Variant(Format.OPENVINO),
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
) -> FormatsResult:
    """Export a run, or a spec with its weights, in each variant to a temporary folder, and benchmark the files."""
    from t2tbuild.weights.resolve import find_spec

    document = open_with_options(find_spec(text), overrides, data, {}, quiet=True)
    source = choose_weights(text, document.spec, weights)
    has_data = document.spec.train is not None and source is not None
    if not has_data:
        why = "no weights" if source is None else "no data; name a run, or add --data DATA"
        stderr().print(f"without accuracy and int8: {document.spec.model.name} has {why}", soft_wrap=True)
        variants = [name for name in variants if not VARIANTS[name].int8]
    with TemporaryDirectory() as folder, document.located_errors():
        named, labels_of = _resolve(document, source, has_data=has_data)
        files = _export(named, labels_of, source, variants, Path(folder), listener)
        accuracy = _accuracy_on(named) if has_data else None
        return _benchmark(files, accuracy, options, listener)


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
    files: Mapping[str, Path], accuracy: Accuracy | None, options: FormatOptions, listener: Listener
) -> FormatsResult:
    import torch

    from t2tbuild.bench.formats import benchmark_formats

    return benchmark_formats(
        files,
        batch_size=options.batch_size,
        threads=options.threads or torch.get_num_threads(),
        seconds=SECONDS_PER_FILE * len(files) if options.seconds is None else options.seconds,
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


def _export(
    named: Spec,
    labels_of: LabelMap | None,
    source: Weights | None,
    variants: Sequence[str],
    folder: Path,
    listener: Listener,
) -> dict[str, Path]:
    """Write each variant into a folder, and return the files by their names."""
    import torch

    from t2tbuild.build import build_model
    from t2tbuild.training.calibration import Calibration
    from t2tbuild.training.preprocessing import find_preprocessing
    from t2tbuild.weights.export import export_model
    from t2tbuild.weights.load import load_spec_weights

    torch.manual_seed(0)
    built = build_model(named.model)
    if source is not None:
        load_spec_weights(built, source)
    steps = find_preprocessing(named, source, built.eval())
    files = {}
    for name in variants:
        listener(f"{name}: exporting")
        one, files[name] = VARIANTS[name], folder / f"{name}{VARIANTS[name].kind.suffix}"
        int8 = None
        if one.int8:
            int8 = Calibration(named, labels_of, images=CALIBRATION_IMAGES, max_drop=NO_LIMIT).int8(built)
        export_model(named.model, built, files[name], one.kind, preprocessing=steps, half=one.half, int8=int8)
    return files


def _accuracy_on(spec: Spec) -> Accuracy:
    """Return a function that measures the accuracy of a file on the test images of a spec, else those of validation."""
    from t2tbuild.training.evaluate import evaluate_exported

    def accuracy(model: ExportedModel) -> tuple[float, int]:
        found = evaluate_exported(spec, model, "test")
        return found.top1, found.images

    return accuracy


def _accuracy_of_file(model: ExportedModel, data: str) -> tuple[float, int]:
    from t2tbuild.cli.exported import open_exported_spec

    document = open_exported_spec(str(model.path), model.info, (), data)
    with document.located_errors():
        return _accuracy_on(document.spec)(model)
