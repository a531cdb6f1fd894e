"""Measure the sampling of candidates: python benchmarks/asks.py feasible | rate [--storage URL] [--processes 1 8 32].

feasible: 5 seeds of 200 candidates at 5G in the space of deep_narrow, with an objective that returns at once. Share of
draws over budget, and candidates that were trained twice or over budget; compared with plain Optuna on the same space,
with depth as a further parameter and the budget as a soft constraint.

rate: candidates per second (sampling, cost, storage; the objective returns at once) with several processes on one
study, on SQLite and, if its server is installed, on PostgreSQL.

Measured on 2026-11-23, two cores of an AMD EPYC, server and processes on them, torch 2.15.0, Optuna 5.0.0:

              draws   over budget  repeated  trained twice  trained over budget
t2tbuild      31,513     0 (0.0%)    30,513              0                    0
plain Optuna   1,000  326 (32.6%)         0            100                    0

asks a second   1 process   8     32
SQLite             21.8   17.6  14.8
PostgreSQL         15.2   18.1  15.6
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from t2tbuild import load_search_spec, load_spec
from t2tbuild.cost.budget import is_within, measure
from t2tbuild.nas.budget import solve
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import plan
from t2tbuild.nas.record import Record, Source, State
from t2tbuild.nas.sampler import FeasibleSampler
from t2tbuild.nas.space import FILL, Space, to_category
from t2tbuild.nas.storage import RECORD
from t2tbuild.nas.storage_url import storage_url
from t2tbuild.nas.store import open_studies
from t2tbuild.spec import ModelSpec, SearchSpec

ASKS, SEEDS = 200, 5


def pretend(model: ModelSpec) -> float:
    """Return a result that depends on the model, so that a sampler can learn from it."""
    backbone = model.backbone
    return (
        -abs(backbone.depth - 12) / 12
        - abs(backbone.embed_dim - 384) / 384
        + random.Random(key_of(model)).gauss(0, 0.05)
    )


def ours(seed: int) -> dict[str, int]:
    spec = load_search_spec("deep_narrow", ["search.sampler=tpe", f"search.seed={seed}", "search.random_fraction=0"])
    with tempfile.TemporaryDirectory() as folder:
        asker = Asker(spec, f"sqlite:///{folder}/study.db")
        drawn = [asker.ask() for _ in range(ASKS)]
    tally = {"infeasible": sum(draw.infeasible for draw in drawn), "repeated": sum(draw.duplicates for draw in drawn)}
    models = [draw.model for draw in drawn]
    over = sum(not is_within(model, spec.search.budget) for model in models)
    draws = ASKS + tally["infeasible"] + tally["repeated"]
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


class Asker:
    """The work of a search worker between two trainings, without the trainings."""

    def __init__(self, spec: SearchSpec, url: str) -> None:
        planned = plan(spec)
        self.space, self.search = planned.space, spec.search
        self.sampler = FeasibleSampler(spec.search, planned)
        self.study = open_studies(url, spec, planned, self.sampler).candidates

    def ask(self) -> Any:
        self.study.optimize(self._objective, n_trials=1)
        return self.draw

    def _objective(self, trial: optuna.Trial) -> float:
        _ = trial.relative_params
        draw = self.sampler.chosen
        assert draw is not None
        assignment = self.space.draw(
            lambda path, values, trial=trial: (  # type: ignore[misc]
                trial.suggest_int(path, values[0], values[-1], step=values.step)
                if isinstance(values, range)
                else trial.suggest_categorical(path, [to_category(value) for value in values])
            )
        )
        assignment[FILL] = trial.suggest_float(FILL, *self.space.solved.fill.fill)
        assert key_of(solve(self.space, assignment, self.search.budget)) == draw.key
        record = Record(str(trial.number), State.COMPLETED, draw.model, key=draw.key, source=Source.SAMPLER)
        trial.set_user_attr(RECORD, record.to_json())
        self.draw = draw
        return pretend(draw.model)


def keep_asking(url: str, seconds: float, counts: Any, barrier: Any, index: int, sampler: str) -> None:
    asker = Asker(load_search_spec("deep_narrow", [f"search.sampler={sampler}", "search.random_fraction=0"]), url)
    barrier.wait()
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        asker.ask()
        counts[index] += 1


def rate(url: str, processes: int, seconds: float, sampler: str) -> float:
    Asker(
        load_search_spec("deep_narrow", [f"search.sampler={sampler}", "search.random_fraction=0"]), url
    )  # makes the tables
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
    parser.add_argument("what", choices=("feasible", "rate"))
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--sampler", default="random")
    given = parser.parse_args()
    table = Table()
    if given.what == "feasible":
        for column in ("", "draws", "over budget", "repeated", "trained twice", "trained over budget"):
            table.add_column(column, justify="left" if not column else "right")
        for name, arm in (("t2tbuild", ours), ("plain Optuna", plain)):
            found = [arm(seed) for seed in range(SEEDS)]
            total = {key: sum(one[key] for one in found) for key in found[0]}
            share = f"{total['infeasible']} ({total['infeasible'] / total['draws']:.1%})"
            row = (total["draws"], share, total["repeated"], total["trained twice"], total["trained over"])
            table.add_row(name, *map(str, row))
    else:
        for column in ("storage", "processes", "asks a second"):
            table.add_column(column, justify="right")
        with storages() as urls:
            for name, url in urls.items():
                for processes in given.processes:
                    table.add_row(
                        name,
                        str(processes),
                        f"{rate(url(f'p{processes}'), processes, given.seconds, given.sampler):.1f}",
                    )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
