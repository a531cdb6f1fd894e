"""Overhead of the training loop over a plain PyTorch loop, and the cost of a checkpoint in steps.

    python benchmarks/loop.py [--seconds 60] [--out FOLDER]

Compared are `t2tbuild.train` as the command line calls it (run directory, scheduler, seeds, data on the device,
progress bar on a terminal) and a plain loop: forward, smoothed cross-entropy, backward, step() and zero_grad() on a
model with the same weights and optimiser, with one batch that is already on the device. Both alternate in one process:
after each round of steps, the listener of train runs as many plain steps. The time of train runs from the end of a
plain round to the end of the listener's last step; ends of epochs are timed separately. A ratio is that of a round of
train to the mean of the plain rounds before and after it, in wall time and in processor time of this process.
"Outside" is the share of train's steps that is not in `train_step`: data, scheduler, seeds, listener.

A save is `Trainer.save`, fsync included, at the end of epochs of one step. FOLDER is on the disk to measure.

Measured on 2026-11-23, two cores of an AMD EPYC, one thread, torch 2.15.0, timm 1.0.31; medians, 5% to 95% in brackets:

                                       plain step, s  train / plain         goal  processor     outside  rounds
t2t_vit_14, 224 pixels, batch 8        3.21           1.001 (0.94 to 1.09)  1.05  1.016         0.1%     13
t2t_vit_7, 64 pixels, batch 64         0.63           1.019 (0.96 to 1.20)  1.10  1.034         0.2%     13
the same on digits, augmented          0.59           1.023 (0.98 to 1.10)  1.10  1.031         1.3%     16
t2t_vit_7, depth 2, 32, batch 64       0.095          1.007 (0.97 to 1.12)  1.10  1.014         1.1%     13

A save of t2t_vit_14 takes 0.88 s (0.67 to 1.16), 0.25 of a step, and 1.24 s (1.08 to 1.37), 0.38, with averaged
weights. Ends of epochs, validation on a quarter of the images and a save, take 1.4, 0.5, 1.0 and 0.3 s. With tests
running on the other core, the wall-time ratios were 1.078, 1.002, 1.020 and 1.049 over 13 to 16 rounds: a median of so
few rounds is known to a few hundredths only, and "outside" is the more precise figure.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

import t2tbuild.training.train_state as train_state
import t2tbuild.training.trainer as trainer
from t2tbuild import Spec, load_spec, train
from t2tbuild.cli.progress import TrainingProgress
from t2tbuild.training.data import load_data
from t2tbuild.training.device import pick_device
from t2tbuild.training.init_model import init_model
from t2tbuild.training.optim import make_optimizer
from t2tbuild.training.reports import EpochReport, Notice, StepReport
from t2tbuild.training.resolve import resolve
from t2tbuild.training.sampler import EpochSampler

Clock = np.ndarray[tuple[int], np.dtype[np.float64]]
WALL, PROCESSOR = 0, 1

WARM_UP = 2  # rounds of each that are not counted
COMMON = ["train.clip_grad=null", "train.save_every=1h", "train.precision=float32"]
SAVES = 8


@dataclass(frozen=True)
class Case:
    """A training to time; a round is `steps` steps of train and as many plain ones."""

    name: str
    spec: str
    side: int
    batch: int
    steps: int
    goal: float
    overrides: tuple[str, ...] = ()
    digits: bool = False

    def load(self, epochs: int, epoch_steps: int) -> Spec:
        fake = f"kind: fake, num_classes: 10, samples: {self.batch * epoch_steps}"
        data = f"train.data={{{'kind: digits' if self.digits else fake}, image_size: {self.side}}}"
        sizes = [f"train.batch_size={self.batch}", f"train.epochs={epochs}"]
        return load_spec(self.spec, [*self.overrides, data, *sizes, *COMMON])


CASES = [
    Case("t2t_vit_14, 224 pixels, batch 8", "t2t_vit_14", 224, 8, 1, 1.05),
    Case("t2t_vit_7, 64 pixels, batch 64", "t2t_vit_7", 64, 64, 2, 1.10),
    Case("t2t_vit_7, 64 pixels, batch 64, augmented digits", "t2t_vit_7", 64, 64, 2, 1.10, digits=True),
    Case("depth 2, 32 pixels, batch 64", "t2t_vit_7", 32, 64, 10, 1.10, ("model.backbone.depth=2",)),
]


def clock() -> Clock:
    """Return the wall time and this process' processor time in seconds; other processes affect the latter less."""
    return np.array([time.perf_counter(), time.process_time()])


class PlainLoop:
    """A plain PyTorch training loop."""

    def __init__(self, spec: Spec) -> None:
        resolved, device = resolve(spec), pick_device()
        recipe = resolved.train
        assert recipe is not None
        self.model = init_model(resolved, print).to(device).train()
        self.optimizer = make_optimizer(
            self.model, lr=recipe.lr, weight_decay=recipe.weight_decay, kind=recipe.optimizer
        )
        data = load_data(recipe.data, image=resolved.model.image, in_chans=resolved.model.in_chans, device=device)
        sampler = EpochSampler(data.size("train"), recipe.batch_size, recipe.seed)
        self.images, self.labels = next(iter(data.train_batches(sampler, epoch=0, step=0, epochs=1)))
        self.smoothing = float(recipe.label_smoothing)

    def step(self) -> None:
        loss = F.cross_entropy(self.model(self.images), self.labels, label_smoothing=self.smoothing)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


@dataclass
class AlternatingListener:
    """A listener that runs a plain round after each round of train, and times both."""

    plain: PlainLoop
    progress: TrainingProgress
    steps: int
    device: torch.device
    train_rounds: list[Clock] = field(default_factory=list)
    plain_rounds: list[Clock] = field(default_factory=list)
    epoch_ends: list[float] = field(default_factory=list)
    steps_done: int = 0
    elapsed: Clock = field(default_factory=lambda: np.zeros(2))
    resumed: Clock = field(default_factory=clock)

    def __call__(self, report: StepReport | EpochReport | Notice) -> None:
        self.progress.update(report)
        now = self.now()
        match report:
            case StepReport():
                self.elapsed += now - self.resumed
                self.steps_done += 1
                if self.steps_done == self.steps:
                    self.train_rounds.append(self.elapsed / self.steps)
                    self.plain_rounds.append(self.run_plain_round())
                    self.steps_done, self.elapsed = 0, np.zeros(2)
            case EpochReport():
                self.epoch_ends.append((now - self.resumed)[WALL])
        self.resumed = self.now()

    def run_plain_round(self) -> Clock:
        self.progress.bar.stop()  # it draws in a thread
        started = self.now()
        for _ in range(self.steps):
            self.plain.step()
        seconds: Clock = (self.now() - started) / self.steps
        self.progress.bar.start()
        return seconds

    def now(self) -> Clock:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return clock()

    def ratios(self, which: int) -> list[float]:
        """Return the ratio of each round of train to the plain rounds before and after it, by one of the clocks."""
        plain = np.array(self.plain_rounds)[:, which]
        trained = np.array(self.train_rounds)[1:, which]
        ratios: list[float] = (trained / ((plain[1:] + plain[:-1]) / 2))[WARM_UP:].tolist()
        return ratios


@contextmanager
def stopwatch(owner: Any, name: str) -> Iterator[list[float]]:
    """Time the calls of a function within this context."""
    seconds: list[float] = []
    function: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds.append(time.perf_counter() - started)

    setattr(owner, name, timed)
    try:
        yield seconds
    finally:
        setattr(owner, name, function)


def terminal() -> Console:
    """Return a terminal in memory, so that the progress bar is drawn."""
    return Console(file=io.StringIO(), force_terminal=True, width=120)


def time_loop(case: Case, seconds: float, run: Path) -> tuple[AlternatingListener, float]:
    """Alternate train and the plain loop for about `seconds`; return the share of train outside of `train_step` too."""
    plain = PlainLoop(case.load(1, case.steps))
    for _ in range(2):
        plain.step()
    started = time.perf_counter()
    for _ in range(2):
        plain.step()
    step = (time.perf_counter() - started) / 2
    target_steps = max(16 * case.steps, round(seconds / step / 2))  # steps of each
    epoch_steps = 19 if case.digits else max(case.steps, round(target_steps / 4))
    spec = case.load(max(2, round(target_steps / epoch_steps)), epoch_steps)
    with (
        TrainingProgress(terminal(), resolve(spec), enabled=True) as progress,
        stopwatch(train_state, "train_step") as inside,
    ):
        listener = AlternatingListener(plain, progress, case.steps, pick_device())
        train(spec, run, listener=listener)
    rounds = np.array(inside[: len(listener.train_rounds) * case.steps]).reshape(-1, case.steps).mean(axis=1)
    return listener, float(np.median(1 - rounds / np.array(listener.train_rounds)[:, WALL]))


def time_saves(case: Case, ema: bool, run: Path) -> tuple[list[float], list[float]]:
    """Return the seconds of alternating steps and saves."""
    loaded = case.load(SAVES, 1)
    assert loaded.train is not None
    spec = loaded.model_copy(update={"train": loaded.train.model_copy(update={"ema": 0.99 if ema else None})})
    with (
        stopwatch(trainer.Trainer, "step") as steps,
        stopwatch(trainer.Trainer, "save") as saved,
    ):
        train(spec, run)
    return steps[1:], saved[1:]


def spread(values: list[float], form: str = "{:.3f}") -> str:
    """Format the median with the 5% and 95% percentiles."""
    low, median, high = np.percentile(values, (5, 50, 95))
    return f"{form.format(median)} ({form.format(low)} to {form.format(high)})"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60, help="of each case")
    options.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))), help="case numbers, from 0")
    options.add_argument("--out", type=Path, help="folder of the runs; by default a temporary one")
    chosen = options.parse_args()
    console = Console(width=180)
    steps = Table("case", "plain step, s", "train / plain", "goal", "processor", "outside", "rounds", "epoch end, s")
    costs = Table("case", "weights", "step, s", "save, s", "save / step")
    with tempfile.TemporaryDirectory(dir=chosen.out) as folder:
        for number in chosen.cases:
            case = CASES[number]
            listener, outside = time_loop(case, chosen.seconds, Path(folder) / f"loop-{number}")
            ratios = listener.ratios(WALL)
            met = f"{case.goal:.2f} {'met' if statistics.median(ratios) <= case.goal else 'missed'}"
            row = [case.name, spread([plain[WALL] for plain in listener.plain_rounds[WARM_UP:]]), spread(ratios), met]
            row += [spread(listener.ratios(PROCESSOR)), f"{outside:.1%}", str(len(ratios))]
            row += [f"{statistics.median(listener.epoch_ends):.2f}"]
            steps.add_row(*row)
            print(*row, sep="  ", flush=True)
        if 0 in chosen.cases:
            for ema in (False, True):
                trained, saved = time_saves(CASES[0], ema, Path(folder) / f"save-{ema}")
                ratio = f"{statistics.median(saved) / statistics.median(trained):.2f}"
                costs.add_row(CASES[0].name, "averaged" if ema else "plain", spread(trained), spread(saved), ratio)
    console.print(steps, costs)


if __name__ == "__main__":
    main()
