"""Measure the sampling of candidates: python benchmarks/asks.py [cost | feasible | rate].

cost (the default): CPU time of one ask on SQLite, by sampler, at the start of a search and after 200 finished
candidates. An ask draws a candidate, which solves its depth from the budget by the closed form (draw), and adds it to
the study as claimed (storage). Storing the result of a candidate and the decision of a worker are listed beside it.
fvcore's count and the training are not part of it.

feasible: 5 seeds of 200 candidates at 5G in the space of deep_narrow, with an objective that returns at once. Share of
draws over budget, and candidates that were trained twice or over budget; compared with plain Optuna on the same space,
with depth as a further parameter and the budget as a soft constraint.

rate: candidates per second (draw, cost, storage; the objective returns at once) with several processes on one study, on
SQLite and, if its server is installed, on PostgreSQL.

Measured in the evening of 2026-11-29, two cores, load average 4 to 5, torch 2.15.0, Optuna 5.0.0; CPU time in ms,
mean (highest) of 20 asks:

sampler    finished          draw     storage           ask  store the result       decide
tpe               1  47.3 (290.7)   8.0 (9.5)  55.3 (299.0)       25.6 (27.6)  13.7 (16.1)
tpe             201   48.7 (60.4)  9.7 (11.2)   58.4 (70.7)       26.2 (29.0)  22.3 (24.7)
random            1     5.0 (7.7)   7.8 (9.3)   12.8 (15.6)       25.1 (26.4)  13.8 (15.9)
random          201     3.9 (6.4)   8.7 (9.7)   12.5 (15.1)       24.3 (26.8)  21.5 (27.9)
predicted         1     2.8 (3.6)  7.6 (10.6)   10.5 (14.2)       24.7 (36.1)  12.6 (15.9)
predicted       201     5.3 (6.4)  9.2 (10.9)   14.5 (17.0)       26.7 (36.5)  21.4 (24.4)

Storage is two reads by Optuna's RDBStorage and one transaction of 6 statements (store/trial_writer.py). With
zero_cost.pool=1 a draw of TPE took 11 to 12 ms. The first ask of the sampler predicted takes 4.7 s: it predicts every
member of the space, once in each process.

Where the time of a TPE draw goes, CPU ms of an ask after 30 finished candidates, mean of 20 asks, on 2026-11-30 under a
load average of 8: 33.0 in all for a pool of 4, and 7.8 for storage beside it.

part                                   calls    ms
TPESampler.sample_relative                 4  24.5
  splitting the trials into two groups     4   1.1
  building Parzen estimators               8   5.8
  sampling 24 points from the better one   4   7.4
  densities of these in both               8   9.1
solving the depth from the budget          4   4.1
copying finished trials                    1   1.3
ranking the pool by prediction             1   0.9
the rest                                       2.2

So TPE does not reach 15 ms: Optuna alone needs about 6 ms for each of the 4 draws. The estimators are the same for all
4, but no public method builds them once or returns more than the best of the 24 points. A pool of the nearest members
of one draw would be cheaper, but it is another search, whose quality has not been measured.

Before, earlier on 2026-11-29 and under a load of 3, storage was about 45 statements of RDBStorage in 7 transactions:

sampler    finished         draw      storage            ask  store the result       decide
tpe               1  38.8 (73.8)  49.5 (75.3)   88.4 (149.0)       41.1 (70.3)  13.0 (14.7)
tpe             201  62.6 (74.0)  53.4 (57.8)  116.0 (129.9)       43.0 (58.3)  22.5 (37.9)
random            1    4.9 (7.2)  45.4 (50.6)    50.4 (55.6)       39.0 (42.2)  12.3 (14.4)
random          201    4.0 (6.9)  53.1 (65.5)    57.1 (70.1)       42.8 (46.5)  21.8 (25.7)
predicted         1    4.1 (5.3)  45.2 (51.8)    49.3 (56.9)       38.6 (44.6)  12.1 (14.1)
predicted       201  12.7 (16.0)  49.7 (51.9)    62.4 (66.4)       41.7 (44.7)  21.5 (32.4)

The engine before 2026-11-29, measured on 2026-11-23, two cores of an AMD EPYC, server and processes on them:

              draws   over budget  repeated  trained twice  trained over budget
t2tbuild      31,513     0 (0.0%)    30,513              0                    0
plain Optuna   1,000  326 (32.6%)         0            100                    0

asks a second   1 process   8     32
SQLite             21.8   17.6  14.8
PostgreSQL         15.2   18.1  15.6

The engine of 2026-11-30, on two cores that were slower by a factor of about 2.5:

asks a second   1 process   8     32
SQLite             15.1   17.6  14.6
PostgreSQL         12.7   17.7   9.3
"""

import argparse
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from t2tbuild import load_search_spec, load_spec, predict_cost
from t2tbuild.cost.budget import excess, is_within, measure
from t2tbuild.nas.draw import Draw
from t2tbuild.nas.draw_pool import pool_of
from t2tbuild.nas.evaluator import FunctionEvaluator
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import plan
from t2tbuild.nas.record import Record, Rung, State
from t2tbuild.nas.sampler import CandidateSampler
from t2tbuild.nas.scheduler import rank, stop_reason
from t2tbuild.nas.space import Space
from t2tbuild.nas.store.open import open_store
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.store.trials import Values
from t2tbuild.nas.store.url import storage_url
from t2tbuild.spec import ModelSpec, SearchSpec

ASKS, SEEDS = 200, 5
SAMPLERS = ("tpe", "random", "predicted")
TIMED = 20
"""Asks that are timed at the start, and again after ASKS finished candidates."""


def load(sampler: str, seed: int = 0) -> SearchSpec:
    fields = [f"search.sampler={sampler}", f"search.seed={seed}", "search.trials=1000000", "search.random_fraction=0"]
    return load_search_spec("deep_narrow", fields)


def pretend(model: ModelSpec) -> float:
    """Return a result that depends on the model, so that a sampler can learn from it."""
    backbone = model.backbone
    return (
        -abs(backbone.depth - 12) / 12
        - abs(backbone.embed_dim - 384) / 384
        + random.Random(key_of(model)).gauss(0, 0.05)
    )


class TimedSampler(CandidateSampler):
    """A sampler that keeps its last draw and the CPU seconds that it took."""

    last: Draw | None = None
    seconds = 0.0

    def draw(self, index: int, finished: Sequence[FrozenTrial], seen: set[str], **given: Any) -> Draw | None:
        started = time.process_time()
        self.last = super().draw(index, finished, seen, **given)
        self.seconds = time.process_time() - started
        return self.last


@dataclass(frozen=True)
class Ask:
    """A draw, and the CPU seconds of the parts of a worker's turn."""

    drawn: Draw
    draw: float
    storage: float
    finish: float
    decide: float


class Asker:
    """The work of a search worker between two trainings, without the trainings."""

    def __init__(self, spec: SearchSpec, url: str) -> None:
        self.plan = plan(spec)
        self.search = self.plan.search
        self.sampler = TimedSampler(self.search, self.plan)
        spec = spec.model_copy(update={"search": self.search})
        self.store: Store = open_store(url, spec, self.plan, self.sampler)
        self.evaluator = FunctionEvaluator(lambda candidate, _steps: pretend(candidate.model), self.search)

    def ask(self) -> Ask:
        """Draw and claim a candidate, and store a result for it."""
        pool, choose = pool_of(self.search, self.plan, (), self.evaluator)
        started = time.process_time()
        claim = self.store.draw_candidate(self.sampler, "benchmark", pool=pool, choose=choose)
        asked = time.process_time() - started
        assert claim is not None
        assert self.sampler.last is not None
        started = time.process_time()
        record = finished_record(claim.record, self.search.proxy.rungs)
        values = {rung.steps: rung.accuracy for rung in record.rungs}
        over = excess(record.measures, self.search.budget)
        self.store.finish(claim, record, Values([record.rungs[-1].accuracy], values, over))
        finished = time.process_time() - started
        started = time.process_time()
        found = self.store.snapshot()
        rank(self.search, found.records, found.reference_runs)
        stop_reason(self.search, found.records, found.reference_runs)
        decided = time.process_time() - started
        return Ask(self.sampler.last, self.sampler.seconds, asked - self.sampler.seconds, finished, decided)


def finished_record(record: Record, rungs: Sequence[int]) -> Record:
    """Return the record of a completed training whose results depend on the model."""
    assert record.model is not None
    cost, accuracy = predict_cost(record.model), pretend(record.model)
    results = tuple(Rung(steps, accuracy, 2.0 - accuracy, 1.0) for steps in rungs)
    return replace(record, state=State.COMPLETED, macs=cost.macs, params=cost.params, rungs=results)


def cost() -> Table:
    table = Table(title="CPU time, ms: mean (highest)", title_justify="left")
    for column in ("sampler", "finished", "draw", "storage", "ask", "store the result", "decide", "first ask"):
        table.add_column(column, justify="left" if column == "sampler" else "right")
    for sampler in SAMPLERS:
        with tempfile.TemporaryDirectory() as folder:
            asker = Asker(load(sampler), f"sqlite:///{folder}/study.db")
            first, *asks = [asker.ask() for _ in range(1 + ASKS + TIMED)]
            asker.store.__exit__()
        for finished, timed in ((1, asks[:TIMED]), (ASKS + 1, asks[ASKS:])):
            parts = [[getattr(one, part) for one in timed] for part in ("draw", "storage", "finish", "decide")]
            whole = [one.draw + one.storage for one in timed]
            shown = [spread(values) for values in (*parts[:2], whole, *parts[2:])]
            table.add_row(sampler, str(finished), *shown, f"{1000 * (first.draw + first.storage):.0f}")
    return table


def spread(seconds: Sequence[float]) -> str:
    return f"{1000 * statistics.fmean(seconds):.1f} ({1000 * max(seconds):.1f})"


def ours(seed: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        asker = Asker(load("tpe", seed), f"sqlite:///{folder}/study.db")
        drawn = [asker.ask().drawn for _ in range(ASKS)]
        asker.store.__exit__()
    tally = {"infeasible": sum(draw.infeasible for draw in drawn), "repeated": sum(draw.duplicates for draw in drawn)}
    models = [draw.model for draw in drawn]
    over = sum(not is_within(model, asker.search.budget) for model in models)
    draws = ASKS + tally["infeasible"] + tally["repeated"] + sum(draw.passed_over for draw in drawn)
    return tally | {
        "draws": draws,
        "trained twice": ASKS - len({key_of(model) for model in models}),
        "trained over": over,
    }


def plain(seed: int) -> dict[str, int]:
    search = load_search_spec("deep_narrow").search
    space = Space(search, load_spec("t2t_vit_14").model)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    tally, seen = {"infeasible": 0, "repeated": 0, "draws": ASKS, "trained twice": 0, "trained over": 0}, set[str]()
    for _ in range(ASKS):
        trial = study.ask()
        assignment = space.draw(
            lambda path, values, trial=trial: (  # type: ignore[misc]
                trial.suggest_int(path, values[0], values[-1], step=values.step)
                if isinstance(values, range)
                else trial.suggest_categorical(path, list(values))
            )
        )
        try:
            model = space.model(assignment, trial.suggest_int("depth", 1, 64))
        except ValidationError:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        over = measure(model, search.budget)["macs"] - (search.budget.macs.max or 0)
        trial.set_constraint("macs", over)
        tally["infeasible"] += over > 0
        tally["trained twice"] += over <= 0 and key_of(model) in seen
        seen.add(key_of(model))
        study.tell(trial, pretend(model) if over <= 0 else None, None if over <= 0 else optuna.trial.TrialState.PRUNED)
    return tally


def keep_asking(url: str, seconds: float, counts: Any, barrier: Any, index: int, sampler: str) -> None:
    torch.set_num_threads(1)
    asker = Asker(load(sampler), url)
    barrier.wait()
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        asker.ask()
        counts[index] += 1


def rate(url: str, processes: int, seconds: float, sampler: str) -> float:
    Asker(load(sampler), url).store.__exit__()  # creates the tables
    context = multiprocessing.get_context("spawn")
    counts, barrier = context.Array("i", processes), context.Barrier(processes)
    running = [
        context.Process(target=keep_asking, args=(url, seconds, counts, barrier, index, sampler))
        for index in range(processes)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    return sum(counts) / seconds


@contextmanager
def storages() -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.nas.postgresql import installed, server

    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = {"SQLite": lambda name: f"sqlite:///{folder}/{name}.db"}
        if not installed():
            yield found
            return
        with server() as postgresql:
            found["PostgreSQL"] = lambda name: storage_url(postgresql.database(name), Path())
            yield found


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("cost", "feasible", "rate"), nargs="?", default="cost")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--sampler", default="random")
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = {"cost": cost, "feasible": feasible, "rate": lambda: rates(given)}[given.what]()
    Console(width=140).print(table)


def feasible() -> Table:
    table = Table()
    for column in ("", "draws", "over budget", "repeated", "trained twice", "trained over budget"):
        table.add_column(column, justify="left" if not column else "right")
    for name, arm in (("t2tbuild", ours), ("plain Optuna", plain)):
        found = [arm(seed) for seed in range(SEEDS)]
        total = {key: sum(one[key] for one in found) for key in found[0]}
        share = f"{total['infeasible']} ({total['infeasible'] / total['draws']:.1%})"
        row = (total["draws"], share, total["repeated"], total["trained twice"], total["trained over"])
        table.add_row(name, *map(str, row))
    return table


def rates(given: argparse.Namespace) -> Table:
    table = Table()
    for column in ("storage", "processes", "asks a second"):
        table.add_column(column, justify="right")
    with storages() as urls:
        for name, url in urls.items():
            for processes in given.processes:
                found = rate(url(f"p{processes}"), processes, given.seconds, given.sampler)
                table.add_row(name, str(processes), f"{found:.1f}")
    return table


if __name__ == "__main__":
    main()
