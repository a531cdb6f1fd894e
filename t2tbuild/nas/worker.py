"""One worker of a search: it asks the scheduler what to do next, and trains from the store that all workers share."""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from t2tbuild.cost.budget import excess
from t2tbuild.errors import T2TBuildError
from t2tbuild.nas.draw_pool import pool_of
from t2tbuild.nas.evaluator import (
    Candidate,
    Evaluator,
    Measurements,
    check_budget,
    check_cost,
    make_candidate,
    trial_folder,
)
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator
from t2tbuild.nas.record import BASE, Record, Rung, State
from t2tbuild.nas.reference_runs import plan_base_runs, plan_confirmations, reserved_seconds
from t2tbuild.nas.sampler import CandidateSampler
from t2tbuild.nas.scheduler import Action, Progress, count_claimed, next_action, promotes, rank, stop_reason
from t2tbuild.nas.store.heartbeat import heartbeat
from t2tbuild.nas.store.process import worker_name
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.store.trials import Claim, Kind, LostClaim, Values
from t2tbuild.training.loop import catch_out_of_memory
from t2tbuild.training.signals import Interrupt

MEMORY_HINT = "a smaller batch_size or image_size may fit"
POLL_SECONDS = 0.5  # between checks of the other workers
EXHAUSTED = "exhausted"
"""Key of the store's metadata: true once the space has no new candidate."""

Listener = Callable[[Record], None]
T = TypeVar("T")


class TimeIsUp(Exception):  # noqa: N818  # not an error: the training can be continued later
    """The time of this phase of the search is over."""


class EvaluationFailed(Exception):  # noqa: N818  # of one candidate, not of the search
    """The evaluator failed on a candidate. The message is the reason."""


class Worker:
    """A worker on one device. It trains the base, the candidates and the confirmation runs, alongside other workers.

    `deadline` is a time.monotonic(). `listener` is called with each record that this worker changes.
    """

    def __init__(
        self,
        store: Store,
        sampler: CandidateSampler,
        evaluator: Evaluator,
        plan: Plan,
        run: Path,
        *,
        listener: Listener,
        interrupt: Interrupt,
        deadline: float = math.inf,
        workers: int = 1,
    ) -> None:
        self.store, self.sampler, self.evaluator, self.plan, self.search = store, sampler, evaluator, plan, plan.search
        self.run_folder, self.listener, self.interrupt = run, listener, interrupt
        self.deadline, self.workers, self.name = deadline, workers, worker_name()
        self._reserved = 0.0  # seconds at the end for the confirmation runs

    def run(self) -> None:
        """Train until this worker and all others have nothing left to train."""
        self.store.add_references(plan_base_runs(self.search, self.plan.base))
        while True:
            self._check_interrupt()
            progress = self._progress()
            if progress.running:  # by others: this worker trains one at a time
                self.store.stale.requeue()
            match next_action(progress):
                case Action.REFERENCE:
                    self._run_next(Kind.REFERENCE)
                case Action.CANDIDATE:
                    self._run_next(Kind.CANDIDATE)
                case Action.DRAW:
                    self._draw()
                case Action.CONFIRM:
                    found = self.store.snapshot()
                    self.store.add_references(plan_confirmations(self.search, found.records, found.reference_runs))
                case Action.WAIT:
                    time.sleep(POLL_SECONDS)
                case Action.END:
                    return

    def _progress(self) -> Progress:
        """Return the state of the search now."""
        found, now = self.store.snapshot(), time.monotonic()
        records, reference_runs = found.records, found.reference_runs
        self._reserved = reserved_seconds(self.search, records, reference_runs, self.workers)
        return Progress(
            claimed=count_claimed(records),
            trials=self.search.trials,
            waiting_candidates=found.waiting[Kind.CANDIDATE],
            waiting_references=found.waiting[Kind.REFERENCE],
            running=found.running,
            exhausted=bool(self.store.get_meta(EXHAUSTED)),
            stop_reason=stop_reason(self.search, records, reference_runs),
            base_is_trained=any(one.number == BASE and one.state is not State.RUNNING for one in reference_runs),
            to_confirm=len(plan_confirmations(self.search, records, reference_runs)),
            time_for_candidates=now <= self.deadline - self._reserved,
            time_left=now <= self.deadline,
        )

    def _draw(self) -> None:
        pool, choose = pool_of(self.search, self.plan, self.store.records(), self.evaluator)
        if not self.store.add_candidate(self.sampler, pool=pool, choose=choose):
            self.store.set_meta(EXHAUSTED, value=True)

    def _run_next(self, kind: Kind) -> None:
        """Train the first waiting training of a kind. One that is interrupted is queued again."""
        claim = self.store.claim(kind, self.name)
        if claim is None:
            return  # another worker was faster
        try:
            with heartbeat(self.store, claim, self.search.heartbeat):
                self.listener(claim.record)
                record = self._train(claim)
                self.store.finish(claim, record, self._values(kind, record))
            self.listener(record)
        except LostClaim:
            return
        except TimeIsUp:
            self.store.release(claim)
        except KeyboardInterrupt:
            self.store.release(claim)
            raise

    def _train(self, claim: Claim) -> Record:
        """Count the cost of a candidate, then evaluate it from rung to rung while it is promoted.

        A candidate over budget is not trained. One whose evaluation fails is recorded with the reason.
        """
        record, is_candidate = claim.record, claim.kind is Kind.CANDIDATE
        folder = trial_folder(self.run_folder, record)
        candidate = make_candidate(record, self.search, self.run_folder, self._make_check(claim))
        try:
            if record.macs is None or is_candidate:
                record = self._guard(lambda: check_cost(record, self.search))
            if record.state is State.RUNNING:
                record = self._measure(candidate, record)
            if record.state is State.RUNNING:
                record = self._train_rungs(claim, candidate, record)
        except EvaluationFailed as failure:
            record = replace(record, state=State.FAILED, reason=str(failure))
        if is_candidate or not isinstance(self.evaluator, ProxyEvaluator):  # the test evaluation needs reference runs
            shutil.rmtree(folder, ignore_errors=True)
        return record

    def _measure(self, candidate: Candidate, record: Record) -> Record:
        """Return the record with what is measured before training; infeasible where it is over budget."""
        if record.latency is not None:
            return record  # it was measured before
        found = self._guard(lambda: self.evaluator.evaluate(candidate, 0))
        measured = replace(record, latency=found.latency, scores=record.scores or found.scores)
        return check_budget(measured, self.search)

    def _train_rungs(self, claim: Claim, candidate: Candidate, record: Record) -> Record:
        """Return the record with the rungs that it reaches, saved at each.

        An earlier worker promoted it from the rungs before the last one in its record.
        """
        promoted, record = len(record.rungs), replace(record, rungs=())
        for steps in self.search.proxy.rungs:
            started = time.perf_counter()
            try:
                measured = self._guard(partial(self.evaluator.evaluate, candidate, steps))
            except EvaluationFailed as failure:  # the rungs before it stay
                return replace(record, state=State.FAILED, reason=str(failure))
            seconds = time.perf_counter() - started if measured.seconds is None else measured.seconds
            record = replace(record, rungs=(*record.rungs, _to_rung(measured, steps, seconds)))
            if steps == self.search.proxy.rungs[-1]:
                break
            self.store.save(claim, record)
            self.listener(record)
            if claim.kind is Kind.REFERENCE or len(record.rungs) < promoted:
                continue
            found = self.store.snapshot()
            if not promotes(record, self.search, found.records, found.reference_runs):
                return replace(record, state=State.PRUNED)
        return replace(record, state=State.COMPLETED)

    def _guard(self, function: Callable[[], T]) -> T:
        """Call a function. Raises EvaluationFailed with the reason where it fails, or tries to end the process."""
        try:
            with catch_out_of_memory(lambda: MEMORY_HINT):
                return function()
        except TimeIsUp:
            raise
        except (Exception, SystemExit) as error:
            message = str(error) if isinstance(error, T2TBuildError) else f"{type(error).__name__}: {error}"
            raise EvaluationFailed(message.splitlines()[0] if message else "no reason given") from error

    def _values(self, kind: Kind, record: Record) -> Values:
        """Return what Optuna learns of a finished training: by the ranking for candidates, by the score for others."""
        over = excess(record.measures, self.search.budget)
        if kind is Kind.REFERENCE:
            return Values([record.score(self.search.proxy.metric)] if record.rungs else None, excess=over)
        found = self.store.snapshot()
        ranking = rank(self.search, found.records, found.reference_runs)
        value = ranking.value(record)
        if len(self.search.objectives) > 1:
            if record.state is not State.COMPLETED or not math.isfinite(value):
                return Values(excess=over)
            measured = record.measures | {"accuracy": value}
            return Values([measured.get(name, 0.0) for name in self.search.objectives], excess=over)
        at_rungs = {rung.steps: ranking.value(record, rung.steps) for rung in record.rungs}
        completed = record.state is State.COMPLETED and math.isfinite(value)
        return Values([value] if completed else None, at_rungs, over)

    def _check_interrupt(self) -> None:
        if self.interrupt:
            raise self.interrupt.exception()

    def _make_check(self, claim: Claim) -> Callable[[], None]:
        """Return the check between the steps of a training. The base's first training is never timed out."""
        deadline = self.deadline
        if claim.kind is Kind.CANDIDATE:
            deadline -= self._reserved
        elif claim.record.number == BASE and claim.record.seed == 0:
            deadline = math.inf

        def check() -> None:
            self._check_interrupt()
            if time.monotonic() > deadline:
                raise TimeIsUp

        return check


def _to_rung(found: Measurements, steps: int, seconds: float) -> Rung:
    """Return measurements as the result of a rung. What was not measured is not a number."""
    accuracy, loss = (math.nan if value is None else value for value in (found.accuracy, found.loss))
    return Rung(steps, accuracy, loss, seconds)
