"""The supernet of a search, before its candidates: trained, searched, and compared with trainings alone."""

import json
import math
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from t2tbuild.errors import TrainingError
from t2tbuild.files import atomic_write, nan_to_none
from t2tbuild.nas.evaluator import Evaluator
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator
from t2tbuild.nas.rung_loop import TimeIsUp
from t2tbuild.nas.store.meta import SUPERNET, SUPERNET_SECONDS
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.supernet.crew import make_crew
from t2tbuild.nas.supernet.evaluation import MemberEvaluator
from t2tbuild.nas.supernet.inherited import front, limits_of, order_proposals, within, within_latency
from t2tbuild.nas.supernet.latency import LatencyEstimator
from t2tbuild.nas.supernet.pool import SupernetMember, pool
from t2tbuild.nas.supernet.progress import PhaseProgress
from t2tbuild.nas.supernet.proposals import to_plain
from t2tbuild.nas.supernet.ranks import ranks_of, train_on_ranks
from t2tbuild.nas.supernet.results import FOLDER, InheritedResult
from t2tbuild.nas.supernet.steps import Known, Steps
from t2tbuild.nas.supernet.trainer import SupernetProgress, SupernetTrainer
from t2tbuild.nas.supernet.verdict import SupernetVerdict, decide, decide_failed, measure_validity, measure_worth
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import Value
from t2tbuild.training.distributed import DistributedContext

REPORT = "report.json"
TIME_SHARE = 0.5
"""Share of the time of a search that its supernet may take; the candidates have the rest."""
Counts = Mapping[str, Counter[Value]]


@dataclass
class SupernetPhase:
    """The supernet of one search, in its run directory.

    `check_interrupt` raises where the search was interrupted; `report` is called with the progress. `deadline` is a
    time.monotonic().
    """

    planned: Plan
    run_folder: Path
    evaluator: ProxyEvaluator
    store: Store
    check_interrupt: Callable[[], None]
    report: Callable[[PhaseProgress], None]
    deadline: float
    workers: int = 1
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def search(self) -> Search:
        return self.planned.search

    @property
    def folder(self) -> Path:
        return self.run_folder / FOLDER

    def run(self) -> None:
        """Do what is left of this phase.

        Where its time is over, it decides nothing, and can be continued. Where its training fails, it decides nothing.
        """
        if self.store.get_meta(SUPERNET) is not None:
            return
        self.seconds = dict(self.store.get_meta(SUPERNET_SECONDS) or {})
        try:
            self._run()
        except TimeIsUp:
            return
        except TrainingError as error:
            self._write(decide_failed(str(error)), [], {}, {})
        finally:
            self.store.set_meta(SUPERNET_SECONDS, self.seconds)

    def _run(self) -> None:
        members = pool(self.planned)
        with self._timed("training"):
            ranks = ranks_of(self.workers, self.evaluator.device)
            if ranks > 1:
                train_on_ranks(self.run_folder, ranks, self.deadline - time.monotonic())
            trainer = SupernetTrainer(
                members, self.evaluator.data, self.search, DistributedContext(self.evaluator.device)
            )
            trainer.train(self._check, self.folder, self._make_report())
        supernet, counts = trainer.averaged(), trainer.counts
        del trainer  # its optimiser and gradients
        latency_of = self._make_estimator(members)
        trials = self.folder / "trials"
        with make_crew(
            self.run_folder, self.workers, lambda: MemberEvaluator(self.evaluator, supernet, trials)
        ) as crew:
            steps = Steps(self.planned, self.folder, crew, self._check, self.report, latency_of)
            with self._timed("evaluation"):
                inherited, known = steps.evaluate_members(members)
            with self._timed("validity"):
                alone = steps.train_alone(members, inherited)
            with self._timed("confirmation"):
                confirmed = steps.confirm(within_latency(self.search, inherited), alone, known)
        shutil.rmtree(trials, ignore_errors=True)
        metric = self.search.proxy.metric
        validity = measure_validity(alone, [known[one.key].model for one in alone], metric)
        verdict = decide(validity, measure_worth(confirmed, metric), self.planned.target, self.search.sampler)
        self._write(verdict, inherited, counts, known)

    def _check(self) -> None:
        self.check_interrupt()
        if time.monotonic() > self.deadline:
            raise TimeIsUp

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Add the seconds in this context to those of a phase."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - started

    def _make_report(self) -> Callable[[SupernetProgress], None]:
        """Return what reports the progress of the supernet's training."""
        started, first = time.monotonic(), list[int]()

        def report(progress: SupernetProgress) -> None:
            if not first:
                first.append(progress.step)
            here, seconds = progress.step - first[0], time.monotonic() - started
            self.report(PhaseProgress("training", progress.step, progress.steps, seconds, here))

        return report

    def _make_estimator(self, members: Sequence[SupernetMember]) -> Callable[[SupernetMember], float | None]:
        if self.evaluator.meter is None:
            return lambda _member: None
        return LatencyEstimator(self.evaluator.meter, members, self._check).estimate

    def _write(
        self, verdict: SupernetVerdict, inherited: Sequence[InheritedResult], counts: Counts, known: Known
    ) -> None:
        """Write report.json, and store what the search needs: the sentence, and its candidates if it decides."""
        in_time = within_latency(self.search, inherited)
        report = build_report(self.search, verdict, in_time, counts) | {"seconds": self.seconds}
        self.folder.mkdir(parents=True, exist_ok=True)  # a training that failed early has no checkpoint
        atomic_write(self.folder / REPORT, json.dumps(nan_to_none(report), indent=1) + "\n")
        best = order_proposals(self.search, in_time)[: self.search.trials] if verdict.decides else []
        proposals = to_plain([known[one.key].member for one in best])
        self.store.keep_meta(
            SUPERNET, {"decides": verdict.decides, "sentence": verdict.sentence, "proposals": proposals}
        )


def run_supernet(
    planned: Plan,
    run: Path,
    evaluator: Evaluator,
    store: Store,
    check_interrupt: Callable[[], None],
    report: Callable[[PhaseProgress], None],
    deadline: float,
    workers: int,
) -> None:
    """Do what is left of the supernet of a search.

    It may take TIME_SHARE of the time until the `deadline`, a time.monotonic(). Where that is over, it decides nothing,
    and is continued with the search.
    """
    assert isinstance(evaluator, ProxyEvaluator)  # the spec refuses another
    now = time.monotonic()
    ends = now + TIME_SHARE * (deadline - now)
    SupernetPhase(planned, run, evaluator, store, check_interrupt, report, ends, workers).run()


def build_report(
    search: Search, verdict: SupernetVerdict, inherited: Sequence[InheritedResult], counts: Counts
) -> dict[str, Any]:
    """Return the content of a supernet's report.json, without the seconds.

    `best` has the key of the best member within each limit on MACs, `fronts` those on each front.
    """
    costs = ["macs", "params", *(["latency"] if any(one.latency is not None for one in inherited) else [])]
    best = {limit: within(inherited, limit)[:1] for limit in limits_of(search)}
    return {
        "decides": verdict.decides,
        "reason": verdict.reason,
        "sentence": verdict.sentence,
        "metric": search.proxy.metric,
        "members": len(inherited),
        "trained": describe_trained(inherited, counts),
        "validity": None if verdict.validity is None else asdict(verdict.validity),
        "worth": None if verdict.worth is None else asdict(verdict.worth),
        "best": {str(limit): [one.key for one in found] for limit, found in best.items()},
        "fronts": {cost: [one.key for one in front(inherited, cost)] for cost in costs},
    }


def describe_trained(inherited: Sequence[InheritedResult], counts: Counts) -> dict[str, list[dict[str, Any]]]:
    """Return how often each value of each field was trained, and the mean accuracy of the members that have it."""
    return {
        path: [
            {"value": value, "steps": steps, "members": len(of_value), "accuracy": _mean_accuracy(of_value)}
            for value, steps in sorted(values.items(), key=lambda item: _value_order(item[0]))
            for of_value in [[one for one in inherited if one.values.get(path) == value]]
        ]
        for path, values in counts.items()
    }


def _mean_accuracy(results: Sequence[InheritedResult]) -> float | None:
    """Return the mean accuracy of the members that did not fail, None without any."""
    known = [one.accuracy for one in results if math.isfinite(one.accuracy)]
    return statistics.fmean(known) if known else None


def _value_order(value: Value) -> tuple[float, str]:
    """Return what sorts the values of a field: numbers by size, then all others by their text."""
    return (value, "") if isinstance(value, int | float) else (math.inf, str(value))
