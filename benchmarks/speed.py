"""Compare our models with the published formulas and with timm's transformers, on the same weights and images.

    python benchmarks/speed.py [--specs t2t_vit_14 ...] [--modes inference training] [--batches 1 8 64]
                               [--precisions float32 bfloat16] [--compiled] [--device cuda] [--out FILE] [--plot FILE]

Each case runs four models in turn in a separate process: ours, the literal implementation of the formulas with the same
weights (tests/reference_modules.py), timm's vit_small_patch16_224 and deit_small_patch16_224. Ratios are of medians,
with the 5% to 95% range of single rounds. Memory is the peak of a step, weights included. "of peak" is the share of the
fastest matrix product in the same run. docs/speed.md has the results.
"""

import argparse
import itertools
import json
import multiprocessing
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from t2tbuild import build_model, load_spec, predict_cost
from t2tbuild.bench.benchmark import BenchConfig, BenchModel, BenchResult, benchmark_models
from t2tbuild.spec import ModelSpec, catalog

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.reference_modules import reference_module

BESIDE = ("vit_small_patch16_224", "deit_small_patch16_224")
OURS, FORMULAS = "ours", "formulas"


def shipped() -> list[str]:
    """Return the shipped specs with a t2t tokenizer."""
    found = {name: load_spec(name).model for name in catalog.names("specs")}
    return [name for name, one in found.items() if isinstance(one, ModelSpec) and one.tokenizer.kind == "t2t"]


def bench_models(name: str, *, beside: bool) -> list[BenchModel]:
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    cost, built = predict_cost(model), build_model(model)
    size = (model.in_chans, *model.image)
    found = [
        BenchModel(label, module, size, model.num_classes, cost.params, cost.macs)
        for label, module in ((OURS, built), (FORMULAS, reference_module(built)))
    ]
    return found + [timm_bench_model(other) for other in BESIDE] if beside else found


def timm_bench_model(name: str) -> BenchModel:
    import timm

    from t2tbuild.cost.counter import measure_cost

    built = timm.create_model(name)
    cost = measure_cost(built, (3, 224, 224))
    return BenchModel(name, built, (3, 224, 224), 1000, cost.params, cost.macs)


def cases(options: argparse.Namespace) -> Iterator[tuple[str, BenchConfig]]:
    device = torch.device(options.device)
    for name, mode, precision, batch in itertools.product(
        options.specs or shipped(), options.modes, options.precisions, options.batches
    ):
        dtype: torch.dtype = getattr(torch, precision)
        yield name, BenchConfig(device, batch, dtype, compiled=options.compiled, training=mode == "training")


def measure_case(name: str, config: BenchConfig, beside: bool, seconds: float, rounds: int) -> dict[str, Any]:
    """Run a case, in a separate process: the formulas would otherwise reuse memory that another case freed."""
    return to_row(name, benchmark_models(bench_models(name, beside=beside), config, seconds=seconds, rounds=rounds))


def to_row(name: str, result: BenchResult) -> dict[str, Any]:
    """Return the results of a case; `ratio` is our images per second relative to the formulas."""
    by_name = {one.name: one for one in result.measurements}
    ours, formulas, config = by_name[OURS], by_name[FORMULAS], result.config
    return {
        "spec": name,
        "mode": "training" if config.training else "inference",
        "precision": str(config.dtype).removeprefix("torch."),
        "batch": config.batch_size,
        "compiled": config.compiled,
        "ratio": ours.images_per_second / formulas.images_per_second,
        "low": formulas.speed.p5 / ours.speed.p95,
        "high": formulas.speed.p95 / ours.speed.p5,
        "memory": ours.memory / formulas.memory,
        "memory_mb": ours.memory / 1e6,
        "images": {one.name: one.images_per_second for one in result.measurements},
        "share_of_peak": ours.share_of_peak,
        "speed": asdict(ours.speed),
    }


def format_table(rows: list[dict[str, Any]]) -> str:
    """Format the rows as a Markdown table."""
    beside = [name for name in BESIDE if name in rows[0]["images"]]
    names = [
        "spec",
        "step",
        "batch",
        "images/s",
        "against the formulas",
        "memory, MB",
        "of their memory",
        "of peak",
        *beside,
    ]
    lines = ["| " + " | ".join(names) + " |", "|---|---|" + "---:|" * (len(names) - 2)]
    for row in rows:
        cells = [
            row["spec"],
            f"{row['mode']}, {row['precision']}{', compiled' * row['compiled']}",
            str(row["batch"]),
            f"{row['images'][OURS]:.1f}",
            f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
            f"{row['memory_mb']:,.0f}",
            f"{row['memory']:.2f}",
            f"{row['share_of_peak']:.0%}",
            *(f"{row['images'][OURS] / row['images'][name]:.2f}" for name in beside),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe_machine() -> str:
    """Describe the machine and the versions."""
    cores = f"{torch.get_num_threads()} threads, {platform.machine()}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cores
    return f"{device}; torch {torch.__version__}, timm {version('timm')}, Python {platform.python_version()}"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot the ratios to the formulas as bars, in the order of the table."""
    figure = Figure(figsize=(9, 1.2 + 0.3 * len({row["spec"] for row in rows})), layout="constrained")
    colours = {"inference": "#0072B2", "training": "#E69F00"}
    panels = sorted({(row["mode"], row["batch"]) for row in rows})
    for axes, (mode, batch) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        of_panel = [row for row in rows if (row["mode"], row["batch"]) == (mode, batch)]
        below, above = ([abs(row["ratio"] - row[end]) for row in of_panel] for end in ("low", "high"))
        names = [row["spec"] for row in of_panel]
        axes.barh(names, [row["ratio"] for row in of_panel], color=colours[mode], xerr=[below, above], ecolor="#777777")
        axes.axvline(1.0, color="#444444", linewidth=1)
        axes.set_title(f"{mode}, batch {batch}", fontsize=9)
    figure.axes[0].invert_yaxis()
    figure.supxlabel("images per second relative to the published formulas, same weights", fontsize=9)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", nargs="*")
    parser.add_argument("--modes", nargs="*", default=["inference", "training"])
    parser.add_argument("--precisions", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8, 64])
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--beside", action=argparse.BooleanOptionalAction, default=True, help="timm's models, too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each case")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="a JSON file, written after each case")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    rows = []
    spawned = multiprocessing.get_context("spawn")
    for name, config in cases(options):
        with spawned.Pool(1) as own:
            rows.append(own.apply(measure_case, (name, config, options.beside, options.seconds, options.rounds)))
        print({key: value for key, value in rows[-1].items() if key not in ("images", "speed")}, flush=True)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1))
    print(f"{describe_machine()}\n\n{format_table(rows)}")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
