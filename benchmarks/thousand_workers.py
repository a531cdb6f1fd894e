"""Simulate many workers on one PostgreSQL server: python benchmarks/thousand_workers.py --workers 10 100 1000.

The workers, the scheduler, the sampler and the store are the real ones; each worker is a thread. Their evaluator sleeps
in place of training: for a time drawn from REAL_SECONDS, the measured seconds of proxy trainings, times --scale. One in
a hundred fails. The count of fvcore, which the machines of real workers do, is replaced by the equal closed form.

Measured are --seconds after a warm-up of --warm-up seconds, in whose first half the workers start at random times, so
that their start, which is once in a search, does not count. Printed for each number of workers: candidates drawn a
second, the median and the largest wait for a draw, the share of its time in which a worker does not train, the CPU time
of the clients a candidate, which other programs on the machine do not change much, the size of the database (8 MB when
empty), and the most frequent errors. All clients and the server share the cores of this machine, so the workers of a
process share what they have read, which real ones parse on machines of their own. docs/scaling.md has the figures and
what they mean.
"""

import argparse
import copy
import math
import multiprocessing
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import torch
from optuna.storages import RDBStorage
from rich.console import Console
from rich.table import Table

from t2tbuild import load_search_spec, predict_cost
from t2tbuild.errors import TrainingError
from t2tbuild.nas import rung_loop
from t2tbuild.nas.evaluator import Candidate, Measurements, check_budget
from t2tbuild.nas.plan import plan
from t2tbuild.nas.record import Record
from t2tbuild.nas.sampler import CandidateSampler
from t2tbuild.nas.store import database
from t2tbuild.nas.store.open import open_store
from t2tbuild.nas.store.url import storage_url
from t2tbuild.nas.worker import Worker
from t2tbuild.spec.search import Search
from t2tbuild.training.signals import Interrupt

MEASURED = """
20.1 20.9 22.4 25.7 26.8 28.5 29.8 33.8 34.3 35.1 35.8 36.9
40.4 40.5 40.7 44.1 46.8 48.2 51.6 52.5 55.0 57.4 58.9 67.3 71.1
"""
REAL_SECONDS = tuple(map(float, MEASURED.split()))
"""Seconds of the 25 complete trainings of three default searches (1G, 2G and 5G MACs), two workers on two cores."""
FAILURES = 0.01
FIELDS = ("trials=1000000", "random_fraction=0", "sampler=random", "confirm=null", "timeout=null", "patience=null")


class SleepingEvaluator:
    """Sleeps as long as a training would, and counts its seconds in the time that is measured."""

    def __init__(self, search: Search, scale: float, seed: int) -> None:
        self.rungs, self.scale, self.random = search.proxy.rungs, scale, random.Random(seed)
        self.asleep, self.measured = 0.0, (0.0, math.inf)

    def evaluate(self, candidate: Candidate, steps: int) -> Measurements:
        """Return invented measurements after a sleep, or fail."""
        if steps == 0:
            return Measurements()
        before = max((rung for rung in self.rungs if rung < steps), default=0)
        seconds = self.scale * self.random.choice(REAL_SECONDS) * (steps - before) / self.rungs[-1]
        started = time.monotonic()
        try:
            while (left := seconds - (time.monotonic() - started)) > 0:
                candidate.check()
                time.sleep(min(left, 0.5))
        finally:
            begin, end = self.measured
            self.asleep += max(0.0, min(time.monotonic(), end) - max(started, begin))
        if self.random.random() < FAILURES / len(self.rungs):
            raise TrainingError("one in a hundred fails")
        return Measurements(accuracy=self.random.uniform(0.5, 0.9), loss=self.random.uniform(0.2, 1.0))


def count_in_closed_form(record: Record, search: Search) -> Record:
    """Take the place of fvcore's count, which a real worker's own machine does."""
    assert record.model is not None
    cost = predict_cost(record.model)
    return check_budget(replace(record, params=cost.params, macs=cost.macs), search)


def unlimited_pool(url: str, *, engine_kwargs: dict[str, Any], **settings: Any) -> RDBStorage:
    """Connect without a limit: the workers of a process share its connections, and those that wait hold one each."""
    return RDBStorage(url, engine_kwargs=engine_kwargs | {"pool_size": 0}, **settings)


def work(url: str, workers: int, given: argparse.Namespace, number: int, barrier: Any, found: Any) -> None:
    """Run some of the workers in this process: a thread and a store for each, and one pool of connections."""
    torch.set_num_threads(1)
    rung_loop.check_cost = count_in_closed_form  # type: ignore[attr-defined]
    database.RDBStorage = unlimited_pool  # type: ignore[attr-defined]
    spec = load_search_spec("deep_narrow", [f"search.{field}" for field in FIELDS])
    planned = plan(spec, has_evaluator=True)
    search = planned.search
    sampler = CandidateSampler(search, planned)
    with open_store(url, spec.model_copy(update={"search": search}), planned, sampler) as store:
        waits: list[float] = []
        errors: Counter[str] = Counter()
        evaluators = [SleepingEvaluator(search, given.scale, number * 10_000 + index) for index in range(workers)]

        def run(evaluator: SleepingEvaluator, deadline: float) -> None:
            time.sleep(evaluator.random.uniform(0, given.warm_up / 2))
            own = copy.copy(store)  # a worker has state of its own: its last claim that was not answered
            draw = own.draw_candidate

            def timed_draw(*args: Any, **settings: Any) -> Any:
                started = time.monotonic()
                try:
                    return draw(*args, **settings)
                finally:
                    if measured_from < time.monotonic() < deadline:
                        waits.append(time.monotonic() - started)

            own.draw_candidate = timed_draw  # type: ignore[method-assign]
            interrupt, run_folder = Interrupt(), Path(given.folder)
            worker = Worker(
                own, copy.copy(sampler), evaluator, planned, run_folder,
                listener=lambda _record: None, interrupt=interrupt, deadline=deadline,
            )  # fmt: skip
            try:
                worker.run()
            except Exception as error:
                errors[f"{type(error).__name__}: {error}".splitlines()[0][:100]] += 1

        barrier.wait()
        measured_from = time.monotonic() + given.warm_up
        deadline = measured_from + given.seconds
        for one in evaluators:
            one.measured = (measured_from, deadline)
        threads = [threading.Thread(target=run, args=(one, deadline), daemon=True) for one in evaluators]
        for thread in threads:
            thread.start()
        time.sleep(given.warm_up)
        used = time.process_time()
        for thread in threads:
            thread.join(timeout=max(0.0, deadline + given.grace - time.monotonic()))
        hung = sum(thread.is_alive() for thread in threads)
        if hung:
            errors[f"not ended {given.grace:g} s after the end"] += hung
        used = time.process_time() - used
        found.append((waits, sum(one.asleep for one in evaluators), dict(errors), used))


def simulate(url: str, workers: int, given: argparse.Namespace) -> list[str]:
    """Return the row of the table for a number of workers."""
    processes = min(given.processes, workers)
    context = multiprocessing.get_context("fork")  # torch is imported once
    with context.Manager() as manager:
        found, barrier = manager.list(), context.Barrier(processes)
        shares = [workers // processes + (index < workers % processes) for index in range(processes)]
        running = [
            context.Process(target=work, args=(url, share, given, index, barrier, found), daemon=True)
            for index, share in enumerate(shares)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join(timeout=given.warm_up + given.seconds + given.grace + 120)
            process.kill()
        results = list(found)
    waits = [wait for some, _, _, _ in results for wait in some]
    drawn, waits = len(waits), waits or [0.0]
    errors = sum((Counter(errors) for _, _, errors, _ in results), Counter[str]())
    if len(results) < processes:
        errors["processes that did not end"] = processes - len(results)
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        size = connection.execute(sqlalchemy.text("SELECT pg_database_size(current_database())")).scalar() or 0
    engine.dispose()
    return [
        str(workers),
        str(drawn),
        f"{drawn / given.seconds:.1f}",
        f"{statistics.median(waits):.2f} ({max(waits):.1f})",
        f"{1 - sum(asleep for _, asleep, _, _ in results) / (workers * given.seconds):.0%}",
        f"{1000 * sum(used for *_, used in results) / max(drawn, 1):.0f}",
        f"{size / 1e6:.1f} MB",
        "; ".join(f"{count} x {error}" for error, count in errors.most_common(3)) or "none",
    ]


def main() -> None:
    """Print the table."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.nas import postgresql as own_server

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=30)
    parser.add_argument("--grace", type=float, default=30)
    parser.add_argument("--scale", type=float, default=1.0, help="of the seconds of trainings")
    given = parser.parse_args()
    table = Table()
    for column in (
        "workers",
        "candidates",
        "a second",
        "draw, s (largest)",
        "idle",
        "CPU ms each",
        "database",
        "errors",
    ):
        table.add_column(column, justify="right")
    own_server.SETTINGS[:] = [one.replace("=120", "=2500") for one in own_server.SETTINGS]
    with tempfile.TemporaryDirectory() as given.folder, own_server.server() as postgresql:
        for workers in given.workers:
            url = storage_url(postgresql.database(f"w{workers}"), Path())
            table.add_row(*simulate(url, workers, given))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
