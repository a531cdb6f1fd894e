"""Break searches at random moments: python benchmarks/search_faults.py [outages | kills | supervisors] [--rounds 20].

Three processes, each with a run directory of its own, join one search in a PostgreSQL database. Their trainings take a
second and compute nothing; everything else is real.

outages: in each round the server is stopped for 5, 30 or 60 seconds at a random moment.
kills: in each round one of the processes is killed with SIGKILL at a random moment, and started again.
supervisors: one process has two workers; in each round it, not they, is killed with SIGKILL, and started again.

A kill of a process that has ended is none, and is no round. At the end every planned candidate must be measured once,
no trial may be running or waiting, and each process must have ended with exit code 0.

Measured on 2026-11-29, two cores, beside other loads; nothing was lost, measured twice or left running, and every exit
code was 0: outages and kills 20 rounds each (160 candidates each), supervisors 8 rounds (64 candidates),
and on 2026-11-30 17 more (208 candidates). Kills again on 2026-11-30, counting only processes that had not ended: 20
rounds, 160 candidates, the same figures.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from t2tbuild import predict_cost, search
from t2tbuild.nas import evaluator, proxy_evaluator
from t2tbuild.nas.evaluator import Candidate
from t2tbuild.nas.existing_run import reopen_store
from t2tbuild.nas.record import Rung
from t2tbuild.nas.store.url import VARIABLE
from t2tbuild.spec import SearchSpec
from tests.nas.conftest import FakeTrainer, tiny_search
from tests.nas.postgresql import Server, server

PROCESSES, PER_ROUND = {"outages": 3, "kills": 3, "supervisors": 1}, 8
DOWN_SECONDS = (5, 30, 60)
CHANCE = random.Random(0)


class SleepingTrainer(FakeTrainer):
    """A training that sleeps for half a second at each rung."""

    def train(self, check: Callable[[], None], folder: Path | None = None) -> Iterator[Rung]:
        for rung in super().train(check, folder):
            time.sleep(0.5)
            yield rung


def spec_in(folder: Path, trials: int, *more: str) -> SearchSpec:
    folder.mkdir(exist_ok=True)
    fields = [f"search.trials={trials}", "search.heartbeat=3s", "search.retries=100", "search.target=data"]
    fields += ["search.patience=null", "search.zero_cost.names=[]", "search.sampler=random"]
    return tiny_search(folder, *fields, *more)


def evaluate(candidate: Candidate, steps: int) -> float:
    """Sleep for half a second, and return an accuracy by the width. Worker processes import it by its name."""
    time.sleep(0.5)
    return 0.5 + candidate.model.backbone.embed_dim / 1000 + steps / 10_000


def join(kind: str, folder: Path, trials: int) -> None:
    """Join the search of the environment's database, as one of the processes."""
    if kind == "supervisors":
        spec = spec_in(
            folder, trials, f"search.evaluator={Path(__file__).stem}:evaluate", "search.proxy.metric=accuracy"
        )
        search(spec, folder / "run", workers=2)
        return
    proxy_evaluator.ProxyTrainer = SleepingTrainer  # type: ignore[assignment,misc]
    evaluator.count_model = predict_cost  # type: ignore[assignment]
    search(spec_in(folder, trials), folder / "run")


def start(kind: str, folder: Path, trials: int, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, kind, "--join", str(folder), "--trials", str(trials)]
    environment = dict(os.environ) | {VARIABLE: url, "OMP_NUM_THREADS": "1"}
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=Path(__file__).parent)


def break_searches(kind: str, rounds: int, folder: Path, postgresql: Server) -> dict[str, int]:
    """Break a search in each round, and return what is wrong at its end, by kind."""
    url, trials, processes = postgresql.database("faults"), PER_ROUND * rounds, PROCESSES[kind]
    running = [start(kind, folder / str(index), trials, url) for index in range(processes)]
    while not all((folder / str(index) / "run" / "spec.yaml").exists() for index in range(processes)):
        assert all(one.poll() is None for one in running), (folder / "0" / "log").read_text()
        time.sleep(0.5)
    broken, codes = 0, list[int]()
    for number in range(rounds):
        time.sleep(CHANCE.uniform(3, 9) * (4 if kind == "supervisors" else 1))  # its workers take long to start
        alive = [index for index, one in enumerate(running) if one.poll() is None]
        if not alive:
            break
        if kind == "outages":
            broken += 1
            postgresql.stop()
            time.sleep(DOWN_SECONDS[number % len(DOWN_SECONDS)])
            postgresql.start()
            continue
        index = CHANCE.choice(alive)
        running[index].kill()
        if (code := running[index].wait()) == -signal.SIGKILL:
            broken += 1
        else:  # it ended just before
            codes.append(code)
        running[index] = start(kind, folder / str(index), trials, url)
    for index, one in enumerate(running):
        codes.append(one.wait(900))
        if codes[-1]:
            print((folder / str(index) / "log").read_text()[-2000:], flush=True)
    _, _, opened = reopen_store(folder / "0" / "run", url)
    with opened as store:
        state = store.snapshot()
    records = [*state.records, *state.reference_runs]
    return {
        "rounds": broken,
        "candidates": len(state.records),
        "exit codes other than 0": sum(code != 0 for code in codes),
        "planned, but not measured": trials - sum(record.state.trained for record in state.records),
        "measured twice": len(records) - len({(one.key, one.seed, one.full) for one in records}),
        "without a result": sum(not record.rungs for record in records),
        "running or waiting": state.running + sum(state.waiting.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=list(PROCESSES))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--join", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.join is not None:
        join(given.kind, given.join, given.trials)
        return
    with tempfile.TemporaryDirectory(prefix="faults_") as folder, server() as postgresql:
        found = break_searches(given.kind, given.rounds, Path(folder), postgresql)
    table = Table(given.kind, "number")
    for name, count in found.items():
        table.add_row(name, str(count))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
