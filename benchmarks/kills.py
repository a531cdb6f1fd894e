"""A training killed at random times ends with the same bits as an uninterrupted one: kills.py --points 6.

For 0 and 2 workers and for 1 and 2 ranks, with mixup and averaged weights (EMA): first an uninterrupted training, then
for each point a new one that is killed by SIGKILL, every second one while it writes a checkpoint. It is resumed by
`train(..., the same folder)`, and killed again in a third of the cases. Weights, average, optimiser and metrics must be
equal to the bit. Of two ranks one is killed; the other must end by itself. A kill that comes when the training is
complete is none, and is counted as too late.

Processes are forked from one that has imported torch, so that they start at once; each trains with one thread.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file

import t2tbuild.timm  # noqa: F401
from t2tbuild import Spec, load_spec
from t2tbuild.training.run import train

CLOCKS = ("images_per_second", "memory", "seconds", "run")
TIMEOUT = 120.0
EXIT_CODES = (0, 1, -signal.SIGKILL)
"""Those of the processes of a training of which one is killed: the others end with an error, or were complete."""
CLASSES, IMAGES, SIDE = 4, 16, 40


def make_images(root: Path) -> None:
    """Write a folder of small images of noise, one brightness per class."""
    noise = np.random.default_rng(0)
    for split, count in (("train", IMAGES), ("val", 6)):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = noise.integers(0, 128, (SIDE, SIDE, 3)) + 40 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")


def spec_for(root: Path, workers: int) -> Spec:
    data = f"{{kind: folder, root: {root}, image_size: 32, workers: {workers}}}"
    changes = [f"train.data={data}", "train.epochs=3", "train.batch_size=16", "train.mixup={}", "train.ema=0.9"]
    changes += ["train.save_every=0.1", "train.drop_path=0.1", "train.accumulate=2", "model.backbone.depth=2"]
    return load_spec("t2t_vit_7", changes)


def start(spec: Spec, run: Path, ranks: int) -> list[int]:
    """Fork the processes of a training and return their process ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(ranks):
        process = os.fork()
        if process == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            os.environ |= {"LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            torch.set_num_threads(1)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 2)
            code = 1
            try:
                train(spec, run)
                code = 0
            finally:
                os._exit(code)
        processes.append(process)
    return processes


def end(processes: list[int]) -> list[int]:
    """Wait for processes and return their exit codes. Exits when one hangs."""
    deadline, codes = time.monotonic() + TIMEOUT, []
    for process in processes:
        while True:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                codes.append(os.waitstatus_to_exitcode(status))
                break
            if time.monotonic() > deadline:
                sys.exit(f"process {process} hangs")
            time.sleep(0.01)
    return codes


@dataclass
class Counts:
    """What happened to trainings that were to be killed.

    Attributes:
        kills: processes that were killed before their training was complete.
        saving: those of them that were killed while a checkpoint was written.
        too_late: kills after the end of the training.
        other_bits: killed trainings that ended with other bits than the uninterrupted one.
        exit_codes: processes that ended with a code other than 0 after the last kill, or with none of `EXIT_CODES` at
            a kill.
    """

    kills: int = 0
    saving: int = 0
    too_late: int = 0
    other_bits: int = 0
    exit_codes: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Counts)))


@dataclass(frozen=True)
class Kill:
    """What a kill met: the checkpoints at that moment, and whether it came before the end of the training."""

    checkpoints: str
    hit: bool
    saving: bool

    def __str__(self) -> str:
        return self.checkpoints if self.hit else f"{self.checkpoints}: too late, it was complete"


def kill(processes: list[int], run: Path, after: float, *, saving: bool) -> Kill:
    """Kill one of the processes after some seconds, or with `saving` at the next write of a checkpoint after that."""
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        time.sleep(0.001)
    while saving and time.monotonic() < deadline + TIMEOUT / 4 and not _is_complete(run):
        if list((run / "checkpoints").glob(".step-*.tmp")):
            break
    victim = random.choice(processes)
    os.kill(victim, signal.SIGKILL)
    left = sorted(path.name for path in (run / "checkpoints").glob("*")) if (run / "checkpoints").exists() else []
    met = any(name.endswith(".tmp") for name in left)
    return Kill(", ".join(left) or "before the first checkpoint", not _is_complete(run), met)


def _is_complete(run: Path) -> bool:
    metrics = run / "metrics.jsonl"
    return metrics.exists() and '"result"' in metrics.read_text()


def read_outcome(run: Path) -> dict[str, Any]:
    """Return everything that must be equal: tensors and metrics, without times and memory."""
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    state = torch.load(newest / "state.pt", weights_only=True)["optimizer"]["state"]
    moments = {f"{key}.{name}": value for key, entry in state.items() for name, value in entry.items()}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    records = [line.get("result", line) for line in lines]
    for record in records:
        for clock in CLOCKS:
            record.pop(clock, None)
    return {
        "weights": load_file(newest / "trained.safetensors"),
        "average": load_file(newest / "model.safetensors"),
        "optimiser": moments,
        "metrics": records,
        "checkpoint": newest.name,
    }


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    wrong = [name for name in ("metrics", "checkpoint") if expected[name] != found[name]]
    for name in ("weights", "average", "optimiser"):
        same = expected[name].keys() == found[name].keys()
        if not same or not all(torch.equal(value, found[name][key]) for key, value in expected[name].items()):
            wrong.append(name)
    return wrong


def measure(root: Path, workers: int, ranks: int, points: int, console: Console) -> Counts:
    """Kill at `points` times, and count what the kills met and what is wrong with the trainings that went on."""
    spec, uninterrupted = spec_for(root / "images", workers), root / f"uninterrupted-{workers}-{ranks}"
    started = time.monotonic()
    codes = end(start(spec, uninterrupted, ranks))
    assert codes == [0] * ranks, codes
    length, expected, counts = time.monotonic() - started, read_outcome(uninterrupted), Counts()
    for point in track(range(points), f"{workers} workers, {ranks} ranks", console=console):
        run = root / "killed"
        shutil.rmtree(run, ignore_errors=True)
        where = []
        for _ in range(1 + (point % 3 == 2)):
            processes = start(spec, run, ranks)
            where.append(kill(processes, run, random.uniform(0.1, 0.8) * length, saving=point % 2 == 1))
            codes = end(processes)
            hit = where[-1].hit
            counts += Counts(kills=hit, saving=hit and where[-1].saving, too_late=not hit)
            counts += Counts(exit_codes=sum(code not in EXIT_CODES for code in codes))
        codes = end(start(spec, run, ranks))
        wrong = differences(expected, read_outcome(run)) if codes == [0] * ranks else [f"exit codes {codes}"]
        counts += Counts(other_bits=bool(wrong), exit_codes=sum(code != 0 for code in codes))
        console.print(f"point {point}: killed at [{'; '.join(map(str, where))}]: {', '.join(wrong) or 'the same bits'}")
    return counts


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--points", type=int, default=6, help="kills for each number of workers and ranks")
    options.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    options.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    options.add_argument("--seed", type=int, default=0)
    chosen, console = options.parse_args(), Console(width=160, highlight=False, markup=False)
    random.seed(chosen.seed)
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_images(root / "images")
        for workers in chosen.workers:
            for ranks in chosen.ranks:
                counts += measure(root, workers, ranks, chosen.points, console)
    for one in fields(Counts):
        console.print(f"{one.name.replace('_', ' ')}: {getattr(counts, one.name)}")
    sys.exit(bool(counts.other_bits or counts.exit_codes))


if __name__ == "__main__":
    main()
