"""t2tbuild bench: measure how fast models are on this machine, and how much of its peak they use."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2tbuild.cli.bench_formats import VARIANTS, FormatOptions, bench_files, bench_variants, parse_variants, report
from t2tbuild.cli.console import format_duration, print_json, stderr, stdout
from t2tbuild.cli.options import DataOption, Json, complete_spec_name
from t2tbuild.cli.spec import group_overrides, open_spec
from t2tbuild.cli.write import check_plot_path, report_write_errors
from t2tbuild.dtype import Precision
from t2tbuild.errors import CostError, InputError, is_memory_full
from t2tbuild.spec.units import plural

if TYPE_CHECKING:
    from rich.console import Console

    from t2tbuild.bench.benchmark import BenchModel, BenchResult
    from t2tbuild.bench.timing import RoundProgress
    from t2tbuild.spec import Spec
    from t2tbuild.spec.document import Document

SECONDS_PER_MODEL = 10.0


def bench(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC...",
            help="Shipped names such as t2t_vit_14, paths or runs, each with its KEY=VALUE; or exported files (.onnx, "
            ".pt2, .xml). Ratios are to the first.",
            autocompletion=complete_spec_name,
        ),
    ],
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; by default CUDA if there is a GPU.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=2**20, help="Images per step.")] = 8,
    precision: Annotated[Precision, typer.Option(help="Precision; below float32 by autocast.")] = Precision.FLOAT32,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the models with torch.compile.")] = False,
    training: Annotated[
        bool, typer.Option("--train", help="Time whole training steps with AdamW instead of inference.")
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, max=86400, help=f"How long to measure; by default {SECONDS_PER_MODEL:g} for each spec."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Minimum number of rounds, however long they take.")] = 10,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw latency against MACs; a .png, .svg or .pdf file.")
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(metavar="FORMATS", help=f"Export a run and compare the files: all, or {', '.join(VARIANTS)}."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="With --formats: weights of a spec; a run has its own.")
    ] = None,
    data: DataOption = None,
    as_json: Json = False,
) -> None:
    """Measure latency, images/s, peak memory and the share of the device's matmul peak.

    Each round runs every model once, so that a slow moment of the machine affects all of them. Of exported files, and
    with --formats, it measures latency, size and memory, and the accuracy on the images of the run or of --data.

    Example: t2tbuild bench t2t_vit_14 resnet50 --batch-size 32 --plot latency.png

    Example: t2tbuild bench runs/flowers --formats all --batch-size 1 --threads 1 --plot formats.png
    """
    _require_device(device)
    check_plot_path("--plot", plot)
    options = FormatOptions(batch_size, threads, seconds, rounds, plot, as_json)
    if _bench_exported(specs, formats, weights, data, options, device, precision, compiled=compiled, training=training):
        return
    if training and precision is Precision.FLOAT16:
        raise InputError("--train --precision float16: needs scaled gradients, which bench does not have; use bfloat16")
    groups = group_overrides(specs)
    documents = [open_spec(text, overrides) for text, overrides in groups]
    names = _display_names(groups, [document.spec for document in documents])

    import torch

    from t2tbuild.bench.benchmark import BenchConfig, benchmark_models
    from t2tbuild.bench.hardware import find_device, require_dtype, set_threads

    found = find_device(device)
    dtype: torch.dtype = getattr(torch, precision)
    require_dtype(found, dtype)
    if threads is not None:
        set_threads(threads)
    config = BenchConfig(found, batch_size, dtype, compiled=compiled, training=training)
    limit = SECONDS_PER_MODEL * len(documents) if seconds is None else seconds
    with _Progress(stderr()) as progress:
        subjects = []
        for name, document in zip(names, documents, strict=True):
            progress.update(f"{name}: building")
            subjects.append(_build(name, document))
        result = benchmark_models(subjects, config, seconds=limit, rounds=rounds, listener=progress.update)
    title = _format_title(result, precision)
    if as_json:
        print_json(_to_json(result, precision))
    else:
        from t2tbuild.report.bench_table import bench_table

        stdout().print(bench_table(result, title=title))
    if plot:
        from t2tbuild.report.latency import plot_latency

        with report_write_errors("--plot", plot):
            plot_latency(result, plot, title=title)
        stderr().print(f"written: {plot}", soft_wrap=True)


def _bench_exported(
    specs: Sequence[str],
    formats: str | None,
    weights: str | None,
    data: str | None,
    options: FormatOptions,
    device: str | None,
    precision: Precision,
    *,
    compiled: bool,
    training: bool,
) -> bool:
    """Benchmark exported files, or the formats of a run. Return whether that was asked for.

    Raises InputError for options that do not fit.
    """
    from t2tbuild.weights.exported import is_exported

    files = [text for text in specs if is_exported(text)]
    if formats is None and not files:
        for option, value in (("--weights", weights), ("--data", data)):
            if value is not None:
                raise InputError(f"{option} is for --formats and exported files; the latency does not depend on it")
        return False
    for option, given in (
        ("--train", training),
        ("--compile", compiled),
        ("--precision", precision is not Precision.FLOAT32),
        ("--device", device not in (None, "cpu")),
    ):
        if given:
            raise InputError(f"{option}: exported files run on the CPU as they are; leave it out")
    if options.threads is not None:
        _require_threads(options.threads)
    groups = group_overrides(specs)
    if formats is None:
        if others := [text for text in specs if text not in files]:
            raise InputError(f"{others[0]}: is no exported file, and {files[0]} is one; measure them apart")
        with _Progress(stderr()) as progress:
            result = bench_files(files, data, options, progress.update)
        report(result, options, plural(len(files), "exported file"))
        return True
    if len(groups) > 1 or files:
        raise InputError("--formats: name one run, or one spec with --weights")
    text, overrides = groups[0]
    variants = parse_variants(formats)
    with _Progress(stderr()) as progress:
        named = formats != "all"
        result = bench_variants(text, overrides, weights, data, variants, options, progress.update, named=named)
    report(result, options, text)
    return True


def _require_threads(count: int) -> None:
    """Raise InputError if the machine has fewer cores."""
    from t2tbuild.bench.hardware import set_threads

    set_threads(count)


def _require_device(name: str | None) -> None:
    """Raise InputError unless it is the name of a device; torch checks later whether the device exists."""
    kind, colon, index = (name or "cpu").partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and index.isascii() and index.isdigit())):
        raise InputError(f"--device: must be cpu, cuda or cuda:NUMBER, got {name!r:.60}")


def _display_names(groups: Sequence[tuple[str, list[str]]], specs: Sequence[Spec]) -> list[str]:
    """Return a unique name per model: its own, or the typed arguments if there are overrides or duplicates."""
    plain = [spec.model.name for spec in specs]
    typed = [
        name if plain.count(name) == 1 and not overrides else " ".join([text, *overrides])
        for name, (text, overrides) in zip(plain, groups, strict=True)
    ]
    seen: Counter[str] = Counter()
    names = []
    for name in typed:
        seen[name] += 1
        names.append(name if typed.count(name) == 1 else f"{name} #{seen[name]}")
    return names


def _build(name: str, document: Document[Spec]) -> BenchModel:
    import torch

    from t2tbuild.bench.benchmark import BenchModel
    from t2tbuild.build import build_model
    from t2tbuild.cost.predict import try_predict_cost

    torch.manual_seed(0)
    model = document.spec.model
    input_size = (model.in_chans, *model.image)
    try:
        with document.located_errors():
            module = build_model(model)
    except (MemoryError, RuntimeError) as error:
        if is_memory_full(error):
            raise CostError(
                f"{name}: out of memory while building it; try a smaller model, or fewer at once"
            ) from error
        raise
    cost = try_predict_cost(model)
    if cost is None:
        from t2tbuild.cost.counter import measure_cost

        cost = measure_cost(module, input_size)
    return BenchModel(name, module, input_size, model.num_classes, cost.params, cost.macs)


def _format_title(result: BenchResult, precision: Precision) -> str:
    from t2tbuild.bench.hardware import device_name

    config = result.config
    job = f"{'training' if config.training else 'inference'}{', compiled' * config.compiled}"
    return f"{job}, batch {config.batch_size}, {precision}, on {device_name(config.device)}{_format_threads(result)}"


def _format_threads(result: BenchResult) -> str:
    import torch

    count = torch.get_num_threads()
    return f", {plural(count, 'thread')}" if result.config.device.type == "cpu" else ""


def _to_json(result: BenchResult, precision: Precision) -> dict[str, Any]:
    import torch

    from t2tbuild.bench.hardware import device_name

    config = result.config
    return {
        "device": str(config.device),
        "device_name": device_name(config.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "precision": str(precision),
        "batch_size": config.batch_size,
        "compiled": config.compiled,
        "training": config.training,
        "matmul_peak_flops_per_second": result.peak_flops,
        "models": [
            {
                "name": one.name,
                "params": one.params,
                "macs": one.macs,
                "median_seconds": one.speed.median,
                "p5_seconds": one.speed.p5,
                "p95_seconds": one.speed.p95,
                "rounds": one.speed.rounds,
                "images_per_second": one.images_per_second,
                "ratio": result.ratio(one),
                "peak_memory_bytes": one.memory,
                "share_of_peak": one.share_of_peak,
            }
            for one in result.measurements
        ],
    }


class _Progress:
    """A progress bar with ETA on a terminal; otherwise a line per model and one every ten seconds of rounds."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.console, self.printed_at = console, time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            auto_refresh=False,  # a refresh thread would take time from the models
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("building", total=None, left="")

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, event: str | RoundProgress) -> None:
        """Show an event: the name of a step, or the progress of the rounds."""
        if isinstance(event, str):
            self.bar.update(self.task, description=event)
            line = event
        else:
            line = f"round {event.done}  ETA {format_duration(event.left)}"
            total = event.seconds + event.left
            self.bar.update(
                self.task,
                description=f"round {event.done}",
                total=total,
                completed=event.seconds,
                left=f"ETA {format_duration(event.left)}",
            )
            if time.monotonic() - self.printed_at < 10 and event.left:
                return
        self.printed_at = time.monotonic()
        self.bar.refresh()
        if not self.console.is_terminal:
            self.console.print(line, soft_wrap=True)
