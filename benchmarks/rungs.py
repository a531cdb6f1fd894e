"""What the ladder costs beside bare steps of the same model: python benchmarks/rungs.py [--rounds 3].

A candidate of the default search, as its twin on this device, climbs through all rungs; before each of its steps a bare
one is taken of a model of the same weights: forward, cross-entropy, backward, clipping, AdamW, on a batch that lies
there. "steps" compares the median step of the ladder, with its order, schedule, seeds and average of the weights, to
the median bare one; "images" all images trained by the rate of all the seconds, evaluations and checkpoints included.

Measured on 2026-11-23, two cores of an AMD EPYC, one thread, torch 2.15.0; 3 climbs each, medians (least to most) of
images a second by those of bare steps:

candidate         bare step, ms  steps                   images
T2T-ViT-14                 83.3  0.936 (0.933 to 0.937)  0.864 (0.823 to 0.868)
shallow and wide           68.0  0.939 (0.935 to 0.940)  0.859 (0.848 to 0.868)
deep and narrow            99.9  0.927 (0.924 to 0.929)  0.849 (0.846 to 0.853)

So training itself is within a tenth of bare steps; ten evaluations and three checkpoints take as much again.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from t2tbuild import load_search_spec, load_spec
from t2tbuild.build import build_model
from t2tbuild.layout import Grid
from t2tbuild.nas.proxy import settle, stand_in
from t2tbuild.nas.successive_halving import CLIP_GRAD, ProxyTrainer
from t2tbuild.spec import ModelSpec
from t2tbuild.training.data import load_data
from t2tbuild.training.device import pick_device, pick_dtype
from t2tbuild.training.optim import make_optimizer

CASES = {
    "T2T-ViT-14": [],
    "shallow and wide": ["model.backbone.depth=5", "model.backbone.embed_dim=640", "model.backbone.num_heads=10"],
    "deep and narrow": ["model.backbone.depth=30", "model.backbone.embed_dim=256", "model.backbone.num_heads=4"],
}
WARM_UP = 5


class Bare:
    """The training step that anyone would write."""

    def __init__(self, model: ModelSpec, images: torch.Tensor, labels: torch.Tensor, device: torch.device) -> None:
        self.model = build_model(model).to(device).train()
        self.optimizer = make_optimizer(self.model, lr=1e-3, weight_decay=0.05)
        self.images, self.labels, self.dtype = images, labels, pick_dtype("auto", device)

    def step(self) -> None:
        with torch.autocast(self.images.device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32):
            loss = F.cross_entropy(self.model(self.images), self.labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_GRAD)
        self.optimizer.step()
        self.optimizer.zero_grad()


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def compare(model: ModelSpec, folder: Path) -> tuple[float, float, float]:
    """Seconds of a bare step, the ladder's median step and its mean step, all included."""
    device = pick_device()
    proxy = settle(load_search_spec("deep_narrow").search.proxy, device.type)
    data = load_data(proxy.data, image=Grid(*proxy.side(model)), in_chans=model.in_chans, device=device)
    twin = stand_in(model, proxy, device.type)
    climber = ProxyTrainer(twin, data, proxy, seed=0, device=device)
    bare = Bare(twin, *next(iter(data.training(climber.order, epoch=0, step=0, epochs=1))), device)
    for _ in range(WARM_UP):
        bare.step()
    bares: list[float] = []
    ours: list[float] = []
    resumed = now(device)

    def turn() -> None:
        nonlocal resumed
        started = now(device)
        ours.append(started - resumed)
        bare.step()
        resumed = now(device)
        bares.append(resumed - started)

    for _ in climber.climb(turn, folder):
        pass
    ours.append(now(device) - resumed)
    ours = ours[1:]
    return statistics.median(bares), statistics.median(ours), statistics.fmean(ours)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title=f"{given.rounds} climbs each, medians (least to most)")
    for column in ("candidate", "bare step, ms", "steps: ladder / bare", "images: ladder / bare"):
        table.add_column(column, justify="left" if column == "candidate" else "right")
    for name, overrides in CASES.items():
        model = load_spec("t2t_vit_14", overrides).model
        found = []
        for _ in range(given.rounds):
            with tempfile.TemporaryDirectory() as folder:
                found.append(compare(model, Path(folder)))
        steps = sorted(bare / step for bare, step, _ in found)
        images = sorted(bare / mean for bare, _, mean in found)
        bare = statistics.median(bare for bare, _, _ in found)
        table.add_row(name, f"{bare * 1000:.1f}", *(spread(values) for values in (steps, images)))
    Console(width=120).print(table)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({values[0]:.3f} to {values[-1]:.3f})"


if __name__ == "__main__":
    main()
