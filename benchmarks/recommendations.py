"""List what the default search recommends: python benchmarks/recommendations.py [--budgets 5G] [--seeds 1] [--out DIR].

Runs `t2tbuild search --budget-macs B --seed S` with shipped defaults for each budget and seed. Shows the predicted
ImageNet top-1 of winner and base, whether the winner's depth and width are within those of published models, the
nearest of them, and the seconds of the whole command. An existing run in --out is read, not repeated.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from t2tbuild.accuracy.predictor import predict_accuracy, shipped_predictor
from t2tbuild.spec.model import ModelSpec

BUDGETS, SEEDS = "1.2G,2.5G,5G,10G", 3
FOUND = ("budget", "seed", "winner", "MACs", "winner's top-1", "base's top-1", "gain")
COLUMNS = (*FOUND, "published range", "nearest published", "seconds")


def run(budget: str, seed: int, folder: Path) -> tuple[dict[str, Any], float]:
    """Run or read a search, and return its report and the seconds of its command."""
    out, clock = folder / f"{budget}_{seed}", folder / f"{budget}_{seed}.seconds"
    if not clock.exists():
        started = time.perf_counter()
        command = [sys.executable, "-m", "t2tbuild", "search", "--budget-macs", budget, "--seed", str(seed)]
        subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        clock.write_text(f"{time.perf_counter() - started:.0f}")
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report, float(clock.read_text())


def row(budget: str, seed: int, report: dict[str, Any], seconds: float) -> list[str]:
    found = report["prediction"]
    records = {one["number"]: one for one in (*report["reference_runs"], *report["candidates"])}
    winner = records[report["winner"]["number"]]
    backbone = winner["model"]["backbone"]
    base = found["base"] or found["winner"]
    gain = found["gain"] or {"value": 0.0, "low": 0.0, "high": 0.0}
    nearest = predict_accuracy(ModelSpec.model_validate(winner["model"])).nearest[0]
    published = shipped_predictor().published
    depths, widths = ([getattr(one, name) for one in published] for name in ("depth", "width"))
    inside = min(depths) <= backbone["depth"] <= max(depths) and min(widths) <= backbone["embed_dim"] <= max(widths)
    return [
        budget,
        str(seed),
        f"{backbone['depth']} x {backbone['embed_dim']}, MLP ratio {backbone['mlp_ratio']}",
        f"{winner['macs'] / 1e9:.2f}G",
        f"{found['winner']['top1']:.1f} ({found['winner']['low']:.1f} to {found['winner']['high']:.1f})",
        f"{base['top1']:.1f} ({base['low']:.1f} to {base['high']:.1f})",
        f"{gain['value']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})",
        "inside" if inside else "outside",
        f"{nearest.name}, {nearest.depth} x {nearest.width:g}",
        f"{seconds:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    table = Table(title="the default search: ImageNet top-1 as predicted, in percent", title_justify="left")
    for column in COLUMNS:
        table.add_column(column)
    for budget in given.budgets.split(","):
        for seed in range(given.seeds):
            table.add_row(*row(budget, seed, *run(budget, seed, folder)))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
