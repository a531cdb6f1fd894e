"""What the training loop costs beside a bare one, and what a checkpoint costs beside a step.

    python benchmarks/loop.py [--seconds 60] [--out FOLDER]

`t2tbuild.train` as the command line calls it (run directory, schedule, seeds, data on the device, progress bar on a
terminal) beside forward, smoothed cross-entropy, backward, step() and zero_grad() on a model of the same weights, with
the same optimiser and a batch that lies there. Both take turns in one process: train's listener, once it has shown its
steps, runs as many bare ones before it lets train go on. What is timed under train is all from the end of a bare round
to the end of the listener of its last step; ends of epochs are timed by themselves. A ratio is that of a round to the
mean of the bare rounds before and after it, by the wall and by this process' time on the processor; "outside" is the
share of train's steps that is not in `train_step`: data, schedule, seeds, listener.

A save is `Training.save`, fsync included, at the end of epochs of one step. FOLDER is on the disk that is measured.

Measured on 2026-11-23, two cores of an AMD EPYC, one thread, torch 2.15.0, timm 1.0.31; medians, 5% to 95% in brackets:

                                       bare step, s   train / bare          goal  by processor  outside  rounds
t2t_vit_14, 224 pixels, batch 8        3.21           1.001 (0.94 to 1.09)  1.05  1.016         0.1%     13
t2t_vit_7, 64 pixels, batch 64         0.63           1.019 (0.96 to 1.20)  1.10  1.034         0.2%     13
the same on digits, varied             0.59           1.023 (0.98 to 1.10)  1.10  1.031         1.3%     16
t2t_vit_7, depth 2, 32, batch 64       0.095          1.007 (0.97 to 1.12)  1.10  1.014         1.1%     13

A save of t2t_vit_14 takes 0.88 s (0.67 to 1.16), 0.25 of a step, and 1.24 s (1.08 to 1.37), 0.38, with an average.
Ends of epochs, validation on a quarter of the images and a save, take 1.4, 0.5, 1.0 and 0.3 s. With tests running on
the other core, by the wall, the first four were 1.078, 1.002, 1.020 and 1.049 of 13 to 16 rounds: a median of so few
is known to some hundredths only, and "outside" is the surer figure.
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

import t2tbuild.training.train_state as learner_room
import t2tbuild.training.trainer as training_room
from t2tbuild import Spec, load_spec, train
from t2tbuild.cli.progress import TrainingProgress
from t2tbuild.training.data import load_data
from t2tbuild.training.device import pick_device
from t2tbuild.training.init_model import build_for_training
from t2tbuild.training.optim import make_optimizer
from t2tbuild.training.reports import EpochReport, Notice, StepReport
from t2tbuild.training.resolve import resolve
from t2tbuild.training.sampler import EpochSampler

Clock = np.ndarray[tuple[int], np.dtype[np.float64]]
WALL, PROCESSOR = 0, 1

WARM_UP = 2  # rounds of each that nobody times
COMMON = ["train.clip_grad=null", "train.save_every=1h", "train.precision=float32"]
SAVES = 8


@dataclass(frozen=True)
class Case:
    """A training that is timed; a round is `steps` of train and as many bare ones."""

    name: str
    spec: str
    side: int
    batch: int
    steps: int
    goal: float
    overrides: tuple[str, ...] = ()
    digits: bool = False

    def load(self, epochs: int, epoch_steps: int) -> Spec:
        held = f"kind: fake, num_classes: 10, samples: {self.batch * epoch_steps}"
        data = f"train.data={{{'kind: digits' if self.digits else held}, image_size: {self.side}}}"
        sizes = [f"train.batch_size={self.batch}", f"train.epochs={epochs}"]
        return load_spec(self.spec, [*self.overrides, data, *sizes, *COMMON])


CASES = [
    Case("t2t_vit_14, 224 pixels, batch 8", "t2t_vit_14", 224, 8, 1, 1.05),
    Case("t2t_vit_7, 64 pixels, batch 64", "t2t_vit_7", 64, 64, 2, 1.10),
    Case("t2t_vit_7, 64 pixels, batch 64, digits varied", "t2t_vit_7", 64, 64, 2, 1.10, digits=True),
    Case("depth 2, 32 pixels, batch 64", "t2t_vit_7", 32, 64, 10, 1.10, ("model.backbone.depth=2",)),
]


def clock() -> Clock:
    """Seconds by the wall and of this process on the processor, which others on the machine touch less."""
    return np.array([time.perf_counter(), time.process_time()])


class Bare:
    """The loop that anyone would write."""

    def __init__(self, spec: Spec) -> None:
        resolved, device = resolve(spec), pick_device()
        recipe = resolved.train
        assert recipe is not None
        self.model = build_for_training(resolved, print).to(device).train()
        self.optimizer = make_optimizer(
            self.model, lr=recipe.lr, weight_decay=recipe.weight_decay, kind=recipe.optimizer
        )
        data = load_data(recipe.data, image=resolved.model.image, in_chans=resolved.model.in_chans, device=device)
        order = EpochSampler(data.size("train"), recipe.batch_size, recipe.seed)
        self.images, self.labels = next(iter(data.training(order, epoch=0, step=0, epochs=1)))
        self.smoothing = float(recipe.label_smoothing)

    def step(self) -> None:
        loss = F.cross_entropy(self.model(self.images), self.labels, label_smoothing=self.smoothing)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


@dataclass
class Turns:
    """A listener that gives train and the bare loop their turns, and knows how long each took."""

    bare: Bare
    progress: TrainingProgress
    steps: int
    device: torch.device
    ours: list[Clock] = field(default_factory=list)
    bares: list[Clock] = field(default_factory=list)
    epoch_ends: list[float] = field(default_factory=list)
    taken: int = 0
    passed: Clock = field(default_factory=lambda: np.zeros(2))
    resumed: Clock = field(default_factory=clock)

    def hear(self, report: StepReport | EpochReport | Notice) -> None:
        self.progress.hear(report)
        now = self.now()
        match report:
            case StepReport():
                self.passed += now - self.resumed
                self.taken += 1
                if self.taken == self.steps:
                    self.ours.append(self.passed / self.steps)
                    self.bares.append(self.bare_round())
                    self.taken, self.passed = 0, np.zeros(2)
            case EpochReport():
                self.epoch_ends.append((now - self.resumed)[WALL])
        self.resumed = self.now()

    def bare_round(self) -> Clock:
        self.progress.bar.stop()  # its thread draws
        started = self.now()
        for _ in range(self.steps):
            self.bare.step()
        seconds: Clock = (self.now() - started) / self.steps
        self.progress.bar.start()
        return seconds

    def now(self) -> Clock:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return clock()

    def ratios(self, which: int) -> list[float]:
        """Of each round of train to the bare rounds beside it, by one of the clocks."""
        bares = np.array(self.bares)[:, which]
        ours = np.array(self.ours)[1:, which]
        ratios: list[float] = (ours / ((bares[1:] + bares[:-1]) / 2))[WARM_UP:].tolist()
        return ratios


@contextmanager
def stopwatch(owner: Any, name: str) -> Iterator[list[float]]:
    """How long the calls of a function take within this context."""
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
    """A terminal that nobody sees, so that the bar is drawn."""
    return Console(file=io.StringIO(), force_terminal=True, width=120)


def loop(case: Case, seconds: float, run: Path) -> tuple[Turns, float]:
    """Alternate train and the bare loop for about this long; gives also the share of train outside of `train_step`."""
    bare = Bare(case.load(1, case.steps))
    for _ in range(2):
        bare.step()
    started = time.perf_counter()
    for _ in range(2):
        bare.step()
    step = (time.perf_counter() - started) / 2
    wanted = max(16 * case.steps, round(seconds / step / 2))  # steps of each
    epoch_steps = 19 if case.digits else max(case.steps, round(wanted / 4))
    spec = case.load(max(2, round(wanted / epoch_steps)), epoch_steps)
    with (
        TrainingProgress(terminal(), resolve(spec), speaks=True) as progress,
        stopwatch(learner_room, "train_step") as inside,
    ):
        turns = Turns(bare, progress, case.steps, pick_device())
        train(spec, run, listener=turns.hear)
    rounds = np.array(inside[: len(turns.ours) * case.steps]).reshape(-1, case.steps).mean(axis=1)
    return turns, float(np.median(1 - rounds / np.array(turns.ours)[:, WALL]))


def saves(case: Case, ema: bool, run: Path) -> tuple[list[float], list[float]]:
    """Seconds of steps and of saves, one after the other."""
    plain = case.load(SAVES, 1)
    assert plain.train is not None
    spec = plain.model_copy(update={"train": plain.train.model_copy(update={"ema": 0.99 if ema else None})})
    with (
        stopwatch(training_room.Training, "learn") as steps,
        stopwatch(training_room.Training, "save") as saved,
    ):
        train(spec, run)
    return steps[1:], saved[1:]


def spread(values: list[float], form: str = "{:.3f}") -> str:
    """Median, and what 5% and 95% stay below."""
    low, median, high = np.percentile(values, (5, 50, 95))
    return f"{form.format(median)} ({form.format(low)} to {form.format(high)})"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60, help="of each case")
    options.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))), help="by number, from 0")
    options.add_argument("--out", type=Path, help="where runs are written; by default in the temporary folder")
    chosen = options.parse_args()
    console = Console(width=180)
    steps = Table("case", "bare step, s", "train / bare", "goal", "by processor", "outside", "rounds", "epoch end, s")
    costs = Table("case", "weights", "step, s", "save, s", "save / step")
    with tempfile.TemporaryDirectory(dir=chosen.out) as folder:
        for number in chosen.cases:
            case = CASES[number]
            turns, outside = loop(case, chosen.seconds, Path(folder) / f"loop-{number}")
            ratios = turns.ratios(WALL)
            met = f"{case.goal:.2f} {'met' if statistics.median(ratios) <= case.goal else 'missed'}"
            row = [case.name, spread([bare[WALL] for bare in turns.bares[WARM_UP:]]), spread(ratios), met]
            row += [spread(turns.ratios(PROCESSOR)), f"{outside:.1%}", str(len(ratios))]
            row += [f"{statistics.median(turns.epoch_ends):.2f}"]
            steps.add_row(*row)
            print(*row, sep="  ", flush=True)
        if 0 in chosen.cases:
            for ema in (False, True):
                trained, saved = saves(CASES[0], ema, Path(folder) / f"save-{ema}")
                ratio = f"{statistics.median(saved) / statistics.median(trained):.2f}"
                costs.add_row(CASES[0].name, "averaged" if ema else "plain", spread(trained), spread(saved), ratio)
    console.print(steps, costs)


if __name__ == "__main__":
    main()
