"""One worker of a search: it asks the scheduler what to do next, and trains from the store that all workers share."""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from t2tbuild.cost.budget import excess
from t2tbuild.nas.draw_pool import pool_of
from t2tbuild.nas.evaluator import Evaluator, make_candidate, trial_folder
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator
from t2tbuild.nas.record import BASE, Record, State
from t2tbuild.nas.reference_runs import plan_base_runs, plan_confirmations, reserved_seconds
from t2tbuild.nas.rung_loop import RungLoop, TimeIsUp
from t2tbuild.nas.sampler import CandidateSampler
from t2tbuild.nas.scheduler import Action, Progress, count_claimed, next_action, promotes, rank, stop_reason
from t2tbuild.nas.store.heartbeat import heartbeat
from t2tbuild.nas.store.meta import EXHAUSTED
from t2tbuild.nas.store.process import worker_name
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.store.trials import Claim, Exhausted, Kind, LostClaim, Snapshot, Values
from t2tbuild.training.signals import Interrupt

POLL_SECONDS = 0.5  # between checks of the other workers

Listener = Callable[[Record], None]


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
        self.store.stale.requeue()
        while True:
            self._check_interrupt()
            found = self.store.snapshot()
            confirmations = plan_confirmations(self.search, found.records, found.reference_runs)
            progress = self._progress(found, len(confirmations))
            if progress.running and self.store.stale.requeue():  # by others: this worker trains one at a time
                continue
            match next_action(progress):
                case Action.REFERENCE:
                    self._run_claimed(self.store.claim(Kind.REFERENCE, self.name))
                case Action.CANDIDATE:
                    self._run_claimed(self.store.claim(Kind.CANDIDATE, self.name))
                case Action.DRAW:
                    self._draw_and_run()
                case Action.CONFIRM:
                    self.store.add_references(confirmations)
                case Action.WAIT:
                    time.sleep(POLL_SECONDS)
                case Action.END:
                    return

    def _progress(self, found: Snapshot, to_confirm: int) -> Progress:
        """Return the state of the search now."""
        records, reference_runs, now = found.records, found.reference_runs, time.monotonic()
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
            to_confirm=to_confirm,
            time_for_candidates=now <= self.deadline - self._reserved,
            time_left=now <= self.deadline,
        )

    def _draw_and_run(self) -> None:
        """Draw a candidate and train it."""
        pool, choose = pool_of(self.search, self.plan, self.store.records(), self.evaluator)
        try:
            claim = self.store.draw_candidate(self.sampler, self.name, pool=pool, choose=choose)
        except Exhausted:
            self.store.set_meta(EXHAUSTED, value=True)
        else:
            self._run_claimed(claim)

    def _run_claimed(self, claim: Claim | None) -> None:
        """Train what was claimed, if another worker was not faster. A training that is interrupted is queued again."""
        if claim is None:
            return
        try:
            with heartbeat(self.store, claim, self.search.heartbeat):
                self.listener(claim.record)
                record = self._train(claim)
                self.store.finish(claim, record, self._values(claim.kind, record))
            self.listener(record)
            # The test evaluation needs the checkpoints of reference runs.
            if claim.kind is Kind.CANDIDATE or not isinstance(self.evaluator, ProxyEvaluator):
                shutil.rmtree(trial_folder(self.run_folder, record), ignore_errors=True)
        except LostClaim:
            return
        except TimeIsUp:
            self.store.release(claim)
        except (KeyboardInterrupt, OSError):  # an OSError of the machine, not of the candidate
            self.store.release(claim)
            raise

    def _train(self, claim: Claim) -> Record:
        """Return the record of a claimed training at its end."""

        def save(record: Record) -> None:
            self.store.save(claim, record)
            self.listener(record)

        def may_promote(record: Record) -> bool:
            found = self.store.snapshot()
            is_reference = claim.kind is Kind.REFERENCE
            return is_reference or promotes(record, self.search, found.records, found.reference_runs)

        loop = RungLoop(self.search, self.evaluator, save, may_promote, self._check_interrupt)
        candidate = make_candidate(claim.record, self.search, self.run_folder, self._make_check(claim))
        return loop.run(claim.record, candidate, count=claim.kind is Kind.CANDIDATE)

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
            return Values([measured[name] for name in self.search.objectives], excess=over)
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
        elif claim.record.number == BASE and claim.record.seed == 0 and not claim.record.full:
            deadline = math.inf

        def check() -> None:
            self._check_interrupt()
            if time.monotonic() > deadline:
                raise TimeIsUp

        return check
