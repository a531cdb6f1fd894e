"""Compare proxy training with bare steps of the same model: python benchmarks/rungs.py [--rounds 3].

The proxy model of a candidate of the default search is trained through all rungs. Before each of its steps, a model
with the same weights takes a bare one: forward, cross-entropy, backward, clipping and AdamW on a batch in memory.
"steps" compares the median step of proxy training, with its sampler, schedule, seeds and averaged weights (EMA), to the
median bare step. "images" compares all images by all seconds, evaluations and checkpoints included.

Measured on 2026-11-23, two cores of an AMD EPYC, one thread, torch 2.15.0; 3 trainings each, medians (lowest to
highest) of images per second relative to bare steps:

candidate         bare step, ms  steps                   images
T2T-ViT-14                 83.3  0.936 (0.933 to 0.937)  0.864 (0.823 to 0.868)
shallow and wide           68.0  0.939 (0.935 to 0.940)  0.859 (0.848 to 0.868)
deep and narrow            99.9  0.927 (0.924 to 0.929)  0.849 (0.846 to 0.853)

So training is within a tenth of bare steps; ten evaluations and three checkpoints take about as much again.

Parts on 2026-11-30 under a load average of 7 to 15, where a step of T2T-ViT-14 took 205 to 238 ms: CPU ms, medians
(lowest), augmentation of 60 runs in turns, averaging of 40 runs before and 40 after. The results stay the same to the
bit. The table above was not measured again.

part                                               before        after
augmentation: one of three equal channels     2.42 (1.95)  1.95 (1.58)
averaging (EMA) of T2T-ViT-14, by parameters  4.80 (4.54)  4.41 (3.69)
averaging (EMA) of deep and narrow            8.54 (8.16)  6.27 (5.00)
evaluation of 270 images, ten in 200 steps            241 to 278

Evaluations are forward passes, about a twentieth of a training. Fewer of them would change the results, and with them
the configuration whose validity was measured (training_configuration in t2tbuild/nas/ranking.py).
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
from t2tbuild.nas.proxy import make_proxy_model, resolve_width
from t2tbuild.nas.proxy_training import CLIP_GRAD, ProxyTrainer
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
    """A minimal training loop: forward, backward, clip, step."""

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
    """Return the seconds of a bare step, and of proxy training the median step and the mean step, all included."""
    device = pick_device()
    proxy = resolve_width(load_search_spec("deep_narrow").search.proxy, device.type)
    data = load_data(proxy.data, image=Grid(*proxy.image_shape(model)), in_chans=model.in_chans, device=device)
    proxy_model = make_proxy_model(model, proxy, device.type)
    trainer = ProxyTrainer(proxy_model, data, proxy, seed=0, device=device)
    bare = Bare(proxy_model, *next(iter(data.train_batches(trainer.sampler, epoch=0, step=0, epochs=1))), device)
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

    for _ in trainer.train(turn, folder):
        pass
    ours.append(now(device) - resumed)
    ours = ours[1:]
    return statistics.median(bares), statistics.median(ours), statistics.fmean(ours)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title=f"{given.rounds} trainings each, medians (lowest to highest)")
    for column in ("candidate", "bare step, ms", "steps: proxy / bare", "images: proxy / bare"):
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
