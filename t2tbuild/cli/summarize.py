"""t2tbuild summarize: show the parts of a model and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.options import ImageSize, Json, Overrides, SpecArgument, image_size_override, parse_amount_option
from t2tbuild.cli.spec import open_spec
from t2tbuild.cli.write import check_plot_path, report_write_errors
from t2tbuild.dtype import Precision
from t2tbuild.errors import CostError, InputError, is_memory_full

if TYPE_CHECKING:
    from t2tbuild.cost import Cost, PartCost
    from t2tbuild.cost.model import Difference
    from t2tbuild.report.cost_table import BatchCost
    from t2tbuild.spec import ModelSpec, Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.spec.model import AnyModel


def summarize(
    spec: SpecArgument,
    overrides: Overrides = None,
    fast: Annotated[bool, typer.Option("--fast", help="Stop after the table, without verification by fvcore.")] = False,
    depth: Annotated[
        int, typer.Option(min=1, max=99, help="Levels of rows: 1 for parts, 2 for their modules, ...")
    ] = 1,
    image_size: ImageSize = None,
    batch_size: Annotated[int, typer.Option(min=1, max=2**20, help="Batch size for MACs, memory and roofline.")] = 1,
    precision: Annotated[Precision, typer.Option(help="Precision for memory and roofline.")] = Precision.FLOAT32,
    device_memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Also estimate the largest batches that fit, e.g. 24G.")
    ] = None,
    peak_flops: Annotated[
        str | None, typer.Option(metavar="FLOPS", help="With --bandwidth: peak FLOP/s of the device, e.g. 312T.")
    ] = None,
    bandwidth: Annotated[
        str | None, typer.Option(metavar="BYTES", help="With --peak-flops: memory bandwidth in bytes/s, e.g. 1.5T.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also plot MACs and parameters per part: .png, .svg or .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a model's parts with their tokens, parameters and MACs, then verify them with fvcore.

    fvcore by itself counts fewer MACs, since it skips fused attention; with t2tbuild.cost.OP_HANDLES it counts these.

    Example: t2tbuild summarize t2t_vit_14 --depth 2 --batch-size 64 --device-memory 24G
    """
    check_plot_path("--plot", plot)
    memory = parse_amount_option("--device-memory", device_memory, "24G")
    flops = parse_amount_option("--peak-flops", peak_flops, "312T")
    bytes_per_second = parse_amount_option("--bandwidth", bandwidth, "1.5T")
    if (flops is None) != (bytes_per_second is None):
        raise InputError("--peak-flops and --bandwidth describe a device together; pass both")
    document = open_spec(spec, [*(overrides or ()), *image_size_override(image_size)])
    loaded = document.spec

    from t2tbuild.cost.predict import predict_cost
    from t2tbuild.spec.model import ModelSpec

    model, options = loaded.model, {"--fast": fast, "--device-memory": memory, "--peak-flops": flops}
    if reason := _reason_not_predicted(model):
        if given := [option for option, value in options.items() if value]:
            raise InputError(f"{given[0]}: {reason}, so its costs are not predicted; leave {given[0]} out")
        _summarize_counted(document, reason, depth=depth, batch_size=batch_size, plot=plot, as_json=as_json)
        return
    assert isinstance(model, ModelSpec)
    from t2tbuild.accuracy.predictor import predict_accuracy
    from t2tbuild.cost.model import EVERY_LEVEL, with_depth
    from t2tbuild.report.cost_table import accuracy_lines, batch_cost_table, cost_table

    predicted, console = predict_cost(model, EVERY_LEVEL), stdout()
    cost = with_depth(predicted, depth)
    if not as_json:
        console.print(cost_table(loaded, cost, batch_size))
    load = _predict_load(model, batch_size, precision, memory, flops, bytes_per_second)
    if not as_json:
        console.print(batch_cost_table(load))
        _print_classes(model)
        for line in accuracy_lines(predict_accuracy(model)):
            console.print(line, soft_wrap=True, markup=False)
    differences = None if fast else _verify(document, model, predicted)
    if as_json:
        print_json(_to_json(loaded, cost, load, differences))
    elif not fast and not differences:
        console.print("verified by fvcore: parameters and MACs of every module equal those of the built model")
    _plot_cost(cost, plot, loaded)
    if differences:
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        listed = "; ".join(map(str, differences[:3]))
        raise CostError(f"fvcore counts differently: {listed}{more}; this is a bug in t2tbuild, please report it")


def _reason_not_predicted(model: AnyModel) -> str:
    """Return why the costs of a model are only counted; empty if they are predicted."""
    from t2tbuild.spec.extension.registry import without_forward
    from t2tbuild.spec.model import ModelSpec

    if not isinstance(model, ModelSpec):
        return f"{model.name} is a timm model, which has no closed form"
    nodes = without_forward(model)
    return f"{', '.join(nodes)} has no symbolic forward" if nodes else ""


def _predict_load(
    model: ModelSpec,
    batch_size: int,
    precision: Precision,
    memory: int | None,
    flops: int | None,
    bandwidth: int | None,
) -> BatchCost:
    from t2tbuild.cost.memory import largest_batch, predict_memory
    from t2tbuild.cost.roofline import Device, predict_roofline
    from t2tbuild.report.cost_table import BatchCost

    largest = roofline = None
    if memory:
        inference, training = (largest_batch(model, memory, precision, training=training) for training in (False, True))
        largest = (memory, inference, training)
    if flops and bandwidth:
        roofline = predict_roofline(model, Device(flops, bandwidth), batch_size, precision)
    return BatchCost(batch_size, precision, predict_memory(model, batch_size, precision), largest, roofline)


def _verify(document: Document[Spec], model: ModelSpec, predicted: Cost) -> list[Difference]:
    """Return the differences between fvcore's count of the built model and the closed form, for every module."""
    if stderr().is_terminal:
        stderr().print("building the model; fvcore counts it", style="dim")

    from t2tbuild.cost.counter import count_model
    from t2tbuild.cost.model import EVERY_LEVEL, differences

    _require_memory(model, predicted)
    try:
        with document.located_errors():
            counted = count_model(model, EVERY_LEVEL, predicted)
    except (MemoryError, RuntimeError) as error:
        if is_memory_full(error):
            message = f"{model.name}: out of memory, so fvcore could not verify it; --fast prints the table only"
            raise CostError(message) from error
        raise
    return differences(predicted, counted)


def _require_memory(model: ModelSpec, predicted: Cost) -> None:
    """Raise CostError if the weights of a model that must be built on the CPU do not fit into free memory."""
    from t2tbuild.cost.counter import is_built_for_real
    from t2tbuild.report.cost_table import format_bytes

    needed, free = 4 * predicted.params, _free_memory()
    if free is not None and needed > free and is_built_for_real(model, predicted):
        reason = f"its weights need {format_bytes(needed)}, and {format_bytes(free)} are free"
        raise CostError(f"{model.name}: fvcore cannot verify it: {reason}; --fast prints the table only")


def _free_memory() -> int | None:
    """Return the available memory in bytes on Linux, otherwise None."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines if line.startswith("MemAvailable:"))
    return next((int(words[1]) * 1024 for words in found), None)


def _summarize_counted(
    document: Document[Spec], reason: str, *, depth: int, batch_size: int, plot: Path | None, as_json: bool
) -> None:
    """Summarize a model that fvcore counts, because it has no predicted costs; `reason` is why."""
    from t2tbuild.cost.counter import count_model

    loaded = document.spec
    with document.located_errors():
        cost = count_model(loaded.model, depth)
    if as_json:
        print_json(_to_json(loaded, cost, None, None))
        _plot_cost(cost, plot, loaded)
        return

    from t2tbuild.report.cost_table import cost_table

    stdout().print(cost_table(loaded, cost, batch_size))
    _print_classes(loaded.model)
    stdout().print(f"counted by fvcore; {reason}, so its budgets are checked only after building", soft_wrap=True)
    _plot_cost(cost, plot, loaded)


def _print_classes(model: AnyModel) -> None:
    """Print the names of the model's classes, if it has any."""
    from t2tbuild.spec.label_names import list_names

    if model.label_names is not None:
        stdout().print(f"classes: {list_names(model.label_names)}", soft_wrap=True)


def _plot_cost(cost: Cost, plot: Path | None, spec: Spec) -> None:
    if plot:
        from t2tbuild.report.cost_plot import plot_cost

        with report_write_errors("--plot", plot):
            plot_cost(cost, plot, title=f"{spec.model.name}, image {spec.model.image}")
        stderr().print(f"written: {plot}", soft_wrap=True)


def _to_json(spec: Spec, cost: Cost, load: BatchCost | None, differences: list[Difference] | None) -> dict[str, Any]:
    from dataclasses import asdict

    from t2tbuild.accuracy.predictor import predict_accuracy
    from t2tbuild.cost.model import CONVENTION

    record: dict[str, Any] = {
        "name": spec.model.name,
        "image_size": list(spec.model.image),
        "params": cost.params,
        "trainable_params": cost.trainable_params,
        "macs": cost.macs,
        "verified": None if differences is None else not differences,
        "differences": [asdict(one) for one in differences or ()],
        "convention": CONVENTION,
        "parts": [_part_to_json(part) for part in cost.parts],
        "label_names": None if spec.model.label_names is None else list(spec.model.label_names),
        "paper": [dict(row) for row in spec.paper],
        "accuracy": asdict(predict_accuracy(spec.model)),
    }
    if load:
        record |= {"batch_size": load.batch_size, "precision": load.precision, "memory_bytes": asdict(load.memory)}
        if load.largest:
            record["largest_batch"] = dict(zip(("device_memory", "inference", "training"), load.largest, strict=True))
        if load.roofline:
            record["roofline"] = asdict(load.roofline) | {"intensity": load.roofline.intensity}
    return record


def _part_to_json(part: PartCost) -> dict[str, Any]:
    return {
        "name": part.name,
        "grid": part.grid and list(part.grid),
        "tokens": part.tokens,
        "channels": part.channels,
        "params": part.params,
        "trainable_params": part.trainable_params,
        "macs": part.macs,
        "parts": [_part_to_json(inner) for inner in part.parts],
    }
