"""t2tbuild summarize: what a model is made of and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2tbuild.cli.console import json_wanted, print_json, stderr, stdout
from t2tbuild.cli.options import ImageSize, Json, Overrides, SpecArgument, amount_option, image_override
from t2tbuild.cli.spec import open_spec
from t2tbuild.cli.write import require_picture, writing
from t2tbuild.dtype import Precision
from t2tbuild.errors import CostError, InputError, is_memory_full

if TYPE_CHECKING:
    from t2tbuild.cost import Cost, PartCost
    from t2tbuild.cost.model import Difference
    from t2tbuild.report.cost_table import Load
    from t2tbuild.spec import ModelSpec, Spec
    from t2tbuild.spec.document import Document


def summarize(
    spec: SpecArgument,
    overrides: Overrides = None,
    fast: Annotated[bool, typer.Option("--fast", help="Stop after the table; fvcore does not check it.")] = False,
    depth: Annotated[int, typer.Option(min=1, max=99, help="Levels of rows: 1 the parts, 2 their modules, ...")] = 1,
    image_size: ImageSize = None,
    batch_size: Annotated[int, typer.Option(min=1, max=2**20, help="Images for MACs, memory and roofline.")] = 1,
    precision: Annotated[Precision, typer.Option(help="For memory and roofline.")] = Precision.FLOAT32,
    device_memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Also tell the largest batches that a device of 24G holds.")
    ] = None,
    peak_flops: Annotated[
        str | None, typer.Option(metavar="FLOPS", help="With --bandwidth: the device's peak FLOP/s, e.g. 312T.")
    ] = None,
    bandwidth: Annotated[
        str | None, typer.Option(metavar="BYTES", help="With --peak-flops: its memory's bytes/s, e.g. 1.5T.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw where MACs and parameters sit: .png, .svg or .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a model's parts with their tokens, parameters and MACs at once, then let fvcore check them.

    Example: t2tbuild summarize t2t_vit_14 --depth 2 --batch-size 64 --device-memory 24G
    """
    require_picture("--plot", plot)
    memory = amount_option("--device-memory", device_memory, "24G")
    flops = amount_option("--peak-flops", peak_flops, "312T")
    bytes_a_second = amount_option("--bandwidth", bandwidth, "1.5T")
    if (flops is None) != (bytes_a_second is None):
        raise InputError("--peak-flops and --bandwidth describe a device together; write both")
    document = open_spec(spec, [*(overrides or ()), *image_override(image_size)])
    loaded = document.spec

    from t2tbuild.cost.closed_form import predict_cost
    from t2tbuild.spec.model import ModelSpec

    model = loaded.model
    if not isinstance(model, ModelSpec):
        if fast or memory or flops:
            option = "--fast" if fast else "--device-memory" if memory else "--peak-flops"
            raise InputError(f"{option}: {model.name} is a model of timm, which no formula covers; leave it out")
        _summarize_timm(document, depth=depth, batch_size=batch_size, plot=plot)
        return
    from t2tbuild.accuracy.predictor import predict_accuracy
    from t2tbuild.report.cost_table import accuracy_lines, cost_table, load_table

    cost, console = predict_cost(model, depth), stdout()
    if not as_json:
        console.print(cost_table(loaded, cost, batch_size))
    load = _load(model, batch_size, precision, memory, flops, bytes_a_second)
    if not as_json:
        console.print(load_table(load))
        for line in accuracy_lines(predict_accuracy(model)):
            console.print(line, soft_wrap=True, markup=False)
    differing = None if fast else _verify(document, model)
    if as_json:
        print_json(_as_json(loaded, cost, load, differing))
    elif not fast and not differing:
        console.print("verified by fvcore: parameters and MACs of every module are those of the built model")
    _draw(cost, plot, loaded)
    if differing:
        message = "; ".join(map(str, differing[:3])) + (
            f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        )
        raise CostError(f"fvcore counts otherwise: {message}; this is a fault of t2tbuild, please report it")


def _load(
    model: ModelSpec,
    batch_size: int,
    precision: Precision,
    memory: int | None,
    flops: int | None,
    bandwidth: int | None,
) -> Load:
    from t2tbuild.cost.memory import largest_batch, predict_memory
    from t2tbuild.cost.roofline import Device, predict_roofline
    from t2tbuild.report.cost_table import Load

    largest = roofline = None
    if memory:
        inference, training = (largest_batch(model, memory, precision, training=training) for training in (False, True))
        largest = (memory, inference, training)
    if flops and bandwidth:
        roofline = predict_roofline(model, Device(flops, bandwidth), batch_size, precision)
    return Load(batch_size, precision, predict_memory(model, batch_size, precision), largest, roofline)


def _verify(document: Document[Spec], model: ModelSpec) -> list[Difference]:
    """Where fvcore's count of the built model is not the closed form's, down to the last module."""
    if stderr().is_terminal:
        stderr().print("building the model; fvcore counts it", style="dim")

    from t2tbuild.cost.closed_form import predict_cost
    from t2tbuild.cost.counter import count_model
    from t2tbuild.cost.model import EVERY_LEVEL, differences

    _require_memory(model)
    try:
        with document.placing():
            counted = count_model(model, EVERY_LEVEL)
    except (MemoryError, RuntimeError) as error:
        if is_memory_full(error):
            message = f"{model.name}: out of memory, so fvcore could not check it; --fast gives the table alone"
            raise CostError(message) from error
        raise
    return differences(predict_cost(model, EVERY_LEVEL), counted)


def _require_memory(model: ModelSpec) -> None:
    """Raises CostError where the weights of a model that is built for real would not fit into what is free."""
    from t2tbuild.cost.closed_form import predict_cost
    from t2tbuild.cost.counter import is_built_for_real
    from t2tbuild.report.cost_table import in_bytes

    needed, free = 4 * predict_cost(model).params, _free_memory()
    if free is not None and needed > free and is_built_for_real(model):
        message = f"its weights take {in_bytes(needed)}, and {in_bytes(free)} are free"
        raise CostError(f"{model.name}: fvcore cannot check it, {message}; --fast gives the table alone")


def _free_memory() -> int | None:
    """Bytes that this machine could give, where it says so as Linux does."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines if line.startswith("MemAvailable:"))
    return next((int(words[1]) * 1024 for words in found), None)


def _summarize_timm(document: Document[Spec], *, depth: int, batch_size: int, plot: Path | None) -> None:
    """A model of timm has no closed form: fvcore alone counts it."""
    from t2tbuild.cost.counter import count_model

    loaded = document.spec
    with document.placing():
        cost = count_model(loaded.model, depth)
    if json_wanted():
        print_json(_as_json(loaded, cost, None, None))
        _draw(cost, plot, loaded)
        return

    from t2tbuild.report.cost_table import cost_table

    stdout().print(cost_table(loaded, cost, batch_size))
    stdout().print("counted by fvcore; no formula covers a model of timm")
    _draw(cost, plot, loaded)


def _draw(cost: Cost, plot: Path | None, spec: Spec) -> None:
    if plot:
        from t2tbuild.report.cost_plot import plot_cost

        with writing("--plot", plot):
            plot_cost(cost, plot, title=f"{spec.model.name}, image {spec.model.image}")
        stderr().print(f"written: {plot}", soft_wrap=True)


def _as_json(spec: Spec, cost: Cost, load: Load | None, differing: list[Difference] | None) -> dict[str, Any]:
    from dataclasses import asdict

    from t2tbuild.accuracy.predictor import predict_accuracy
    from t2tbuild.cost.model import CONVENTION

    record: dict[str, Any] = {
        "name": spec.model.name,
        "image_size": list(spec.model.image),
        "params": cost.params,
        "trainable_params": cost.trainable_params,
        "macs": cost.macs,
        "verified": None if differing is None else not differing,
        "differences": [asdict(one) for one in differing or ()],
        "convention": CONVENTION,
        "parts": [_part(part) for part in cost.parts],
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


def _part(part: PartCost) -> dict[str, Any]:
    return {
        "name": part.name,
        "grid": part.grid and list(part.grid),
        "tokens": part.tokens,
        "channels": part.channels,
        "params": part.params,
        "trainable_params": part.trainable_params,
        "macs": part.macs,
        "parts": [_part(inner) for inner in part.parts],
    }
