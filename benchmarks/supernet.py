"""What a supernet is worth: python benchmarks/supernet.py correlation|accuracy|ladder|step [--data digits|photos|DIR].

- correlation: Kendall's tau of inherited validation loss and accuracy with those of trainings alone, over random
  members, with its bootstrap interval, and the same of measures that need no training; overall and at equal MACs. Also
  how often each value was trained, and its mean inherited accuracy.
- accuracy: the best member by inherited loss: its inherited accuracy, the same member trained alone for as many steps
  as the supernet, and from inherited and from fresh weights to the last rung.
- ladder: seconds of trainings to the same stand-alone score, of the supernet's way (its training, evaluations, and the
  trainings alone of its best members) and of the ordinary search (rungs, ASHA).
- step: CPU time and peak memory of a supernet step, relative to a step of its largest member.

Data are scikit-learn's digits, a folder of images with one folder per class, or `photos`: random crops of the
photographs that scikit-learn and scikit-image bring along (`pip install scikit-image`), one class per photograph. The
crops for training and for validation come from different halves of a photograph. Results are kept in --out, so that a
run that was interrupted continues.
"""

import argparse
import hashlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import torch
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.table import Table

from t2tbuild import load_search_spec, search
from t2tbuild.bench.peak_memory import peak_memory
from t2tbuild.files import atomic_write
from t2tbuild.nas.correlations import Correlation
from t2tbuild.nas.plan import Plan, plan
from t2tbuild.nas.proxy import resolve_width
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator, make_evaluator
from t2tbuild.nas.record import Rung, State
from t2tbuild.nas.supernet.crew import Alone
from t2tbuild.nas.supernet.evaluation import MemberEvaluator, Task, Training
from t2tbuild.nas.supernet.phase import describe_trained
from t2tbuild.nas.supernet.pool import SupernetMember, pool
from t2tbuild.nas.supernet.progress import PhaseProgress
from t2tbuild.nas.supernet.results import InheritedResult, loss_order, read_results
from t2tbuild.nas.supernet.steps import Steps
from t2tbuild.nas.supernet.trainer import SupernetTrainer
from t2tbuild.nas.supernet.verdict import measure_validity
from t2tbuild.spec.model import ModelSpec
from t2tbuild.training.device import pick_device
from t2tbuild.training.distributed import DistributedContext

BASE = """version: 1
model:
  name: base
  image_size: {size}
  num_classes: {classes}
  tokenizer:
    stages:
      - {{patch_size: 5, overlap: 1, token_dim: 16, attention: performer}}
      - {{patch_size: 3, overlap: 1}}
  backbone: {{depth: 4, embed_dim: 64, num_heads: 4, mlp_ratio: 2}}
"""
SEARCH = """version: 1
search:
  name: supernet
  base: base.yaml
  budget: {{macs: 4M}}
  space:
    backbone.embed_dim: {{choices: [32, 48, 64, 80, 96]}}
    backbone.depth: {{low: 1, high: 6}}
    backbone.mlp_ratio: {{choices: [1, 2, 3]}}
    tokenizer.stages.0.attention: {{choices: [performer, transformer]}}
    tokenizer.stages.0.token_dim: {{choices: [8, 16]}}
  supernet: {{steps: {steps}, candidates: {candidates}, validity: {members}, best: {best}, random: 3}}
  proxy:
    data: {data}
    width: full
    rungs: {rungs}
    batch_size: {batch}
    evaluations: 3
    seeds: 1
  confirm: null
  target: data
  sampler: tpe
  zero_cost: {{names: [naswot], pool: 1}}
  trials: {trials}
  patience: null
  seed: {seed}
"""
PHOTO_CLASSES = 24
SMALLEST = 200
CROPS = {"train": 120, "val": 40}


@dataclass(frozen=True)
class Case:
    """A search of one seed, with its evaluator, in a folder of its own."""

    planned: Plan
    evaluator: ProxyEvaluator
    folder: Path
    members: tuple[SupernetMember, ...]


# Data


def photographs() -> Iterator[tuple[str, Image.Image]]:
    """Yield the photographs of scikit-learn and scikit-image that are at least SMALLEST pixels wide and high."""
    import skimage.data
    import sklearn.datasets

    roots = Path(sklearn.datasets.__file__).parent / "images", Path(skimage.data.__file__).parent
    for path in sorted(path for root in roots for path in root.iterdir() if path.suffix in (".png", ".jpg")):
        if "motorcycle_right" in path.name or "chessboard" in path.name:  # the same as another, or no photograph
            continue
        with Image.open(path) as image:
            if min(image.size) >= SMALLEST:
                yield path.stem, image.convert("RGB")


def make_photos(folder: Path, size: int) -> Path:
    """Write a folder of random crops, with jitter of colour and flips, one class per photograph; return it."""
    root = folder / f"photos-{size}"
    if (root / "done").exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    rng = np.random.default_rng(0)
    for name, image in list(photographs())[:PHOTO_CLASSES]:
        width, height = image.size
        halves = {"train": (0, width // 2), "val": (width // 2, width)}  # no pixel is in both
        for split, (left, right) in halves.items():
            target = root / split / name
            target.mkdir(parents=True)
            for index in range(CROPS[split]):
                crop_part(image, (left, 0, right, height), size, rng).save(target / f"{index}.png")
    (root / "done").touch()
    return root


def crop_part(image: Image.Image, box: tuple[int, int, int, int], size: int, rng: np.random.Generator) -> Image.Image:
    """Return a random crop within a box, at a random scale, flipped and with other colours at random."""
    left, top, right, bottom = box
    side = int(rng.integers(size, max(size + 1, min(right - left, bottom - top) * 2 // 3)))
    x, y = int(rng.integers(left, right - side + 1)), int(rng.integers(top, bottom - side + 1))
    crop = image.crop((x, y, x + side, y + side)).resize((size, size), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        crop = enhance(crop).enhance(float(rng.uniform(0.5, 1.5)))
    return crop


def describe_data(given: argparse.Namespace) -> tuple[str, int]:
    """Return the data of the proxy as YAML, and the number of classes."""
    if given.data == "digits":
        return f"{{kind: digits, image_size: {given.size}}}", 10
    root = make_photos(given.out, given.size) if given.data == "photos" else Path(given.data)
    train = next((root / name for name in ("train", "training") if (root / name).is_dir()), root)
    classes = sum(path.is_dir() for path in train.iterdir())
    return json.dumps({"kind": "folder", "root": str(root.absolute()), "image_size": given.size}), classes


def make_case(given: argparse.Namespace, seed: int) -> Case:
    """Write the search of a seed, plan it and load its data. Each search has a folder of its own."""
    data, classes = describe_data(given)
    base = BASE.format(size=given.size, classes=classes)
    text = SEARCH.format(
        steps=given.steps,
        candidates=given.candidates,
        members=given.members,
        best=given.best,
        data=data,
        rungs=given.rungs,
        batch=given.batch,
        trials=given.trials,
        seed=seed,
    )
    options = hashlib.sha256((base + text).encode()).hexdigest()[:8]
    folder = given.out / f"{Path(given.data).name}-{given.size}-{given.steps}-seed{seed}-{options}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.yaml").write_text(base)
    (folder / "search.yaml").write_text(text)
    return load_case(folder / "search.yaml", given.out)


def load_case(spec: Path, cache: Path) -> Case:
    """Plan a search and load its data. Its files go into the folder of the spec, decoded images into `cache`."""
    planned = plan(load_search_spec(spec))
    device = pick_device()
    settings = planned.search.model_copy(update={"proxy": resolve_width(planned.search.proxy, device.type)})
    evaluator = make_evaluator(planned, device, run=cache)
    assert isinstance(evaluator, ProxyEvaluator)
    return Case(Plan(settings, planned.base, planned.space), evaluator, spec.parent, pool(planned))


# Measuring


def train_supernet(case: Case) -> tuple[SupernetTrainer, float]:
    """Return the trained supernet, and the seconds of its training in all runs."""
    context = DistributedContext(case.evaluator.device)
    trainer = SupernetTrainer(case.members, case.evaluator.data, case.planned.search, context)
    trainer.restore(case.folder)
    is_done = trainer.step == trainer.steps
    return trainer, timed(case.folder / "training.json", lambda: trainer.train(lambda: None, case.folder), is_done)


def timed(path: Path, work: Callable[[], object], is_done: bool) -> float:
    """Do what is left of some work, and return the seconds that it took in all runs, which a file keeps."""
    before, started = json.loads(path.read_text()) if path.exists() else 0.0, time.perf_counter()
    try:
        work()
    finally:
        seconds: float = before + (0.0 if is_done else time.perf_counter() - started)
        atomic_write(path, json.dumps(seconds))
    return seconds


def make_steps(case: Case, trainer: SupernetTrainer, console: Console) -> Steps:
    """Return the steps of a search on a trained supernet."""
    evaluator = MemberEvaluator(case.evaluator, trainer.averaged(), case.folder / "trials")

    def report(progress: PhaseProgress) -> None:
        if progress.phase != "evaluation":
            console.print(f"  {progress.phase} {progress.done} of {progress.total}", highlight=False)

    return Steps(case.planned, case.folder, Alone(evaluator), lambda: None, report)


def search_members(steps: Steps, case: Case) -> tuple[list[InheritedResult], float]:
    """Return the members by inherited loss, the best first, and the seconds of their evaluation in all runs."""
    results: list[InheritedResult] = []
    before = len(read_results(case.folder, InheritedResult))
    is_done = before >= min(len(case.members), case.planned.search.supernet.candidates)
    seconds = timed(
        case.folder / "evaluation.json", lambda: results.extend(steps.evaluate_members(case.members)[0]), is_done
    )
    return sorted(results, key=loss_order), seconds


def correlation(given: argparse.Namespace, console: Console) -> None:
    """Print the correlations of inherited with stand-alone results for each seed, and of all seeds the mean."""
    taus: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        case = make_case(given, seed)
        trainer, seconds = train_supernet(case)
        steps = make_steps(case, trainer, console)
        inherited, _ = search_members(steps, case)
        alone = steps.train_alone(case.members, inherited)
        models = {one.key: one.model for one in case.members}
        table = Table(title=f"{given.data}, seed {seed}: {len(case.members)} members, supernet {seconds:.0f} s")
        for column in ("tau with trainings alone", "metric", "all", "[95%]", "equal MACs", "[95%]", "members"):
            table.add_column(column)
        for metric in ("loss", "accuracy"):
            validity = measure_validity(alone, [models[one.key] for one in alone], metric)
            for one in [] if validity is None else [validity.inherited, *validity.baselines]:
                table.add_row(*describe(one, metric))
                if one.tau is not None:
                    taus.setdefault(f"{one.first}, {metric}", []).append(one.tau.value)
        console.print(table)
        mean = statistics.fmean(one.accuracy for one in alone)
        console.print(
            f"mean accuracy alone {mean:.3f}, inherited {statistics.fmean(o.inherited_accuracy for o in alone):.3f}"
        )
        console.print(values_table(trainer, inherited))
    for name, values in taus.items():
        console.print(f"mean tau over {len(values)} seeds, {name}: {statistics.fmean(values):.3f}", highlight=False)


def describe(one: Correlation, metric: str) -> list[str]:
    """Return a correlation as a row."""
    cells = [one.first, metric]
    for tau in (one.tau, one.band_tau):
        cells.append("-" if tau is None else f"{tau.value:.2f}")
        cells.append("-" if tau is None or tau.low is None else f"{tau.low:.2f} to {tau.high:.2f}")
    return [*cells, f"{one.pairs}, {one.band_pairs}"]


def values_table(trainer: SupernetTrainer, inherited: Sequence[InheritedResult]) -> Table:
    """Return how often each value was trained, and the mean inherited accuracy of members that have it."""
    table = Table("field", "value", "trained", "members", "mean inherited accuracy")
    for path, values in describe_trained(inherited, trainer.counts).items():
        for one in values:
            accuracy = "-" if one["accuracy"] is None else f"{one['accuracy']:.3f}"
            table.add_row(path, str(one["value"]), str(one["steps"]), str(one["members"]), accuracy)
    return table


def accuracy(given: argparse.Namespace, console: Console) -> None:
    """Print the accuracies of the member found, inherited and trained alone, for each seed."""
    table = Table(title=f"{given.data}: accuracy (loss) of the best member by inherited loss")
    last = json.loads(given.rungs)[-1]
    for column in ("seed", "inherited", f"alone, {given.steps} steps", f"inherited + {last}", f"fresh + {last}"):
        table.add_column(column)
    for seed in range(given.seeds):
        case = make_case(given, seed)
        trainer, _ = train_supernet(case)
        best = search_members(make_steps(case, trainer, console), case)[0][0]
        perform = MemberEvaluator(case.evaluator, trainer.averaged(), case.folder / "trials").perform
        on = [perform(Task(model_of(case, best), Training(start)), lambda: None) for start in ("inherited", "fresh")]
        found = [best, train_for(case, best, given.steps), *on]
        table.add_row(str(seed), *(f"{one.accuracy:.3f} ({one.loss:.3f})" for one in found))
    console.print(table)


def model_of(case: Case, result: InheritedResult) -> ModelSpec:
    return next(one.model for one in case.members if one.key == result.key)


def train_for(case: Case, result: InheritedResult, steps: int) -> Rung:
    """Train a member alone for a number of steps, from fresh weights."""
    proxy = case.planned.search.proxy.model_copy(update={"rungs": (steps,)})
    trainer = case.evaluator.trainer_of(model_of(case, result), proxy, seed=case.planned.search.seed)
    return list(trainer.train(lambda: None))[-1]


def ladder(given: argparse.Namespace, console: Console) -> None:
    """Print the seconds of the supernet's way and of the ordinary search to the same stand-alone score."""
    table = Table(title=f"{given.data}: seconds of trainings to the same stand-alone loss")
    for column in (
        "seed",
        "loss",
        "supernet, s",
        "of these, its training",
        "ordinary search, s",
        "its best after equal s",
    ):
        table.add_column(column)
    for seed in range(given.seeds):
        case = make_case(given, seed)
        trainer, training = train_supernet(case)
        best, evaluation = search_members(make_steps(case, trainer, console), case)
        perform = MemberEvaluator(case.evaluator, trainer.averaged(), case.folder / "trials").perform
        alone = [perform(Task(model_of(case, one), Training("fresh")), lambda: None) for one in best[: given.best]]
        loss = min(one.loss for one in alone)
        seconds = training + evaluation + sum(one.seconds for one in alone)
        ours = search(load_search_spec(case.folder / "search.yaml", ["search.supernet=null"]), case.folder / "ladder")
        after, reached, equal = 0.0, None, math.inf
        for record in ours.records:
            after += record.seconds
            mine = record.rungs[-1].loss if record.state is State.COMPLETED else math.inf
            reached = after if reached is None and mine <= loss else reached
            equal = min(equal, mine) if after <= seconds else equal
        within = f"{reached:.0f}" if reached is not None else f"not in {after:.0f}, {len(ours.records)} candidates"
        table.add_row(str(seed), f"{loss:.4f}", f"{seconds:.0f}", f"{training:.0f}", within, f"{equal:.4f}")
        console.print(f"  seed {seed}: the supernet's best {given.best}: " + ", ".join(f"{o.loss:.4f}" for o in alone))
    console.print(table)


def step(given: argparse.Namespace, console: Console) -> None:
    """Print time and peak memory of a supernet step, relative to a step of its largest member."""
    case = make_case(given, 0)
    context = DistributedContext(case.evaluator.device)
    trainer = SupernetTrainer(case.members, case.evaluator.data, case.planned.search, context)
    proxy = case.planned.search.proxy
    largest = case.evaluator.trainer_of(case.members[-1].model, proxy, seed=0)
    ours, theirs = trainer_steps(trainer), largest.steps(10**9)
    steps = {"supernet": lambda: next(ours), "largest member": lambda: next(theirs)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(given.rounds + 3):
        for name, one in steps.items():
            started = time.process_time()
            one().item()
            if index >= 3:
                times[name].append(time.process_time() - started)
    ratios = [mine / other for mine, other in zip(times["supernet"], times["largest member"], strict=True)]
    memory = {name: peak_memory(one, case.evaluator.device) for name, one in steps.items()}
    table = Table(
        "step", "CPU ms, median", "peak memory, MB", title=f"{case.planned.search.supernet.members} members a step"
    )
    for name in steps:
        table.add_row(name, f"{1000 * statistics.median(times[name]):.1f}", f"{memory[name] / 1e6:.1f}")
    low, middle, high = (np.quantile(ratios, share) for share in (0.25, 0.5, 0.75))
    more = memory["supernet"] / memory["largest member"]
    table.add_row("ratio", f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{more:.2f}")
    console.print(table)


def trainer_steps(trainer: SupernetTrainer) -> Iterator[torch.Tensor]:
    """Train without end, and yield the loss of each step."""
    batches = trainer.data.train_batches(trainer.sampler, epoch=0, step=0, epochs=10**6)
    for images, labels in batches:
        yield trainer.train_step(images, labels)


COMMANDS: dict[str, Callable[[argparse.Namespace, Console], None]] = {
    "correlation": correlation,
    "accuracy": accuracy,
    "ladder": ladder,
    "step": step,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--data", default="digits", help="digits, photos, or a folder with one folder per class")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-supernet"))
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="training steps of the supernet")
    parser.add_argument("--rungs", default="[40, 80, 160]", help="steps of the rungs; the last is a training alone")
    parser.add_argument("--batch", type=int, default=32, help="images of a step")
    parser.add_argument("--members", type=int, default=24, help="random members that are trained alone")
    parser.add_argument("--candidates", type=int, default=400, help="members that are evaluated")
    parser.add_argument("--best", type=int, default=3, help="best members that are trained alone")
    parser.add_argument("--trials", type=int, default=24, help="candidates of the ordinary search")
    parser.add_argument("--rounds", type=int, default=30, help="timed steps")
    given = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    given.out.mkdir(parents=True, exist_ok=True)
    COMMANDS[given.command](given, Console(width=120))


if __name__ == "__main__":
    main()
