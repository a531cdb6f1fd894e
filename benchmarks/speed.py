"""Our models against the published formulas and timm's transformers, on the same weights and images.

    python benchmarks/speed.py [--specs t2t_vit_14 ...] [--modes inference training] [--batches 1 8 64]
                               [--precisions float32 bfloat16] [--compiled] [--device cuda] [--out FILE] [--plot FILE]

Each case is a process that runs four models in turn, a round after the other: ours, the same weights by the formulas as
they are written (tests/reference_modules.py), and timm's vit_small_patch16_224 and deit_small_patch16_224. Ratios are
of medians; the spread is that of single rounds, 5% to 95%. Memory is the peak of a step, weights included. "of peak" is the share
of the best matrix product of the same minutes. docs/speed.md holds what was measured.
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
from t2tbuild.bench.benchmark import Bench, Setup, Subject, measure_models
from t2tbuild.spec import ModelSpec, catalog

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.reference_modules import reference_module

BESIDE = ("vit_small_patch16_224", "deit_small_patch16_224")
OURS, NAIVE = "ours", "formulas"


def shipped() -> list[str]:
    """The specs of ours that have a tokenizer of soft splits."""
    found = {name: load_spec(name).model for name in catalog.names("specs")}
    return [name for name, one in found.items() if isinstance(one, ModelSpec) and one.tokenizer.kind == "t2t"]


def subjects(name: str, *, beside: bool) -> list[Subject]:
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    cost, built = predict_cost(model), build_model(model)
    size = (model.in_chans, *model.image)
    found = [
        Subject(called, module, size, model.num_classes, cost.params, cost.macs)
        for called, module in ((OURS, built), (NAIVE, reference_module(built)))
    ]
    return found + [timm_subject(other) for other in BESIDE] if beside else found


def timm_subject(name: str) -> Subject:
    import timm

    from t2tbuild.cost.counter import measure_cost

    built = timm.create_model(name)
    cost = measure_cost(built, (3, 224, 224))
    return Subject(name, built, (3, 224, 224), 1000, cost.params, cost.macs)


def cases(given: argparse.Namespace) -> Iterator[tuple[str, Setup]]:
    device = torch.device(given.device)
    for name, mode, precision, batch in itertools.product(
        given.specs or shipped(), given.modes, given.precisions, given.batches
    ):
        dtype: torch.dtype = getattr(torch, precision)
        yield name, Setup(device, batch, dtype, compiled=given.compiled, training=mode == "training")


def measured(name: str, setup: Setup, beside: bool, seconds: float, rounds: int) -> dict[str, Any]:
    """A case, in a process of its own: memory that another one freed would spare the formulas' matrices their pages."""
    return as_row(name, measure_models(subjects(name, beside=beside), setup, seconds=seconds, rounds=rounds))


def as_row(name: str, result: Bench) -> dict[str, Any]:
    """The figures of a case; `ratio` is our images a second by the formulas'."""
    by_name = {one.name: one for one in result.measurements}
    ours, formulas, setup = by_name[OURS], by_name[NAIVE], result.setup
    return {
        "spec": name,
        "mode": "training" if setup.training else "inference",
        "precision": str(setup.dtype).removeprefix("torch."),
        "batch": setup.batch_size,
        "compiled": setup.compiled,
        "ratio": ours.images_per_second / formulas.images_per_second,
        "low": formulas.speed.p5 / ours.speed.p95,
        "high": formulas.speed.p95 / ours.speed.p5,
        "memory": ours.memory / formulas.memory,
        "memory_mb": ours.memory / 1e6,
        "images": {one.name: one.images_per_second for one in result.measurements},
        "share_of_peak": ours.share_of_peak,
        "speed": asdict(ours.speed),
    }


def table_of(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    beside = [name for name in BESIDE if name in rows[0]["images"]]
    names = ["spec", "step", "batch", "images/s", "against the formulas", "memory, MB", "by theirs", "of peak", *beside]
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


def machine() -> str:
    """What the figures are of."""
    cores = f"{torch.get_num_threads()} threads, {platform.machine()}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cores
    return f"{device}; torch {torch.__version__}, timm {version('timm')}, Python {platform.python_version()}"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Ratios to the formulas, a bar each, in the order of the table."""
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
    figure.supxlabel("images a second by those of the published formulas, same weights", fontsize=9)
    figure.savefig(path, dpi=120)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--specs", nargs="*")
    options.add_argument("--modes", nargs="*", default=["inference", "training"])
    options.add_argument("--precisions", nargs="*", default=["float32", "bfloat16"])
    options.add_argument("--batches", nargs="*", type=int, default=[1, 8, 64])
    options.add_argument("--compiled", action="store_true")
    options.add_argument("--beside", action=argparse.BooleanOptionalAction, default=True, help="timm's models, too")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--seconds", type=float, default=20.0, help="of each case")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--out", type=Path, help="a JSON file, written after each case")
    options.add_argument("--plot", type=Path)
    given = options.parse_args()
    rows = []
    spawned = multiprocessing.get_context("spawn")
    for name, setup in cases(given):
        with spawned.Pool(1) as own:
            rows.append(own.apply(measured, (name, setup, given.beside, given.seconds, given.rounds)))
        print({key: value for key, value in rows[-1].items() if key not in ("images", "speed")}, flush=True)
        if given.out:
            given.out.write_text(json.dumps(rows, indent=1))
    print(f"{machine()}\n\n{table_of(rows)}")
    if given.plot:
        plot(rows, given.plot)


if __name__ == "__main__":
    main()
