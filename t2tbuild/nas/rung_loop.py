"""Evaluate one candidate: count its cost, measure it, then train it from rung to rung while it is promoted."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from t2tbuild.errors import T2TBuildError, is_machine_fault
from t2tbuild.nas.evaluator import Candidate, Evaluator, Measurements, PredictedLatency, check_budget, check_cost
from t2tbuild.nas.record import Record, Rung, State
from t2tbuild.spec.search import Search
from t2tbuild.training.loop import catch_out_of_memory

MEMORY_HINT = "a smaller batch_size or image_size may fit"
T = TypeVar("T")


class TimeIsUp(Exception):  # noqa: N818  # not an error: the training can be continued later
    """The time of this phase of the search is over."""


class EvaluationFailed(Exception):  # noqa: N818  # of one candidate, not of the search
    """The evaluator failed on a candidate. The message is the reason."""


@dataclass(frozen=True)
class RungLoop:
    """The evaluation of the candidates of one search.

    `save` stores a record at a rung. `promotes` decides at a rung whether the next one is trained. `check_interrupt`
    raises where the search was interrupted.
    """

    search: Search
    evaluator: Evaluator
    save: Callable[[Record], None]
    promotes: Callable[[Record], bool]
    check_interrupt: Callable[[], None]

    def run(self, record: Record, candidate: Candidate, *, count: bool) -> Record:
        """Return the record at the end of the evaluation; `count` counts its cost again.

        A candidate over budget is not trained. One whose evaluation fails is recorded with the reason.
        """
        try:
            if count or record.macs is None:
                record = self._guard(lambda: check_cost(record, self.search))
            if record.state is State.RUNNING and record.latency is None:
                found = self._guard(lambda: self.evaluator.evaluate(candidate, 0))
                if isinstance(found, PredictedLatency):
                    record = replace(record, predicted_latency=found.latency)
                else:
                    record = replace(record, latency=found.latency, scores=record.scores or found.scores)
                record = check_budget(record, self.search)
        except EvaluationFailed as failure:
            return replace(record, state=State.FAILED, reason=str(failure))
        return self._train(record, candidate) if record.state is State.RUNNING else record

    def _train(self, record: Record, candidate: Candidate) -> Record:
        """Return the record with the rungs that it reaches, saved at each.

        Rungs that an earlier worker saved are not trained again. It promoted the candidate from all but the last.
        """
        saved, rungs = len(record.rungs), self.search.proxy.rungs
        for reached, steps in enumerate(rungs, start=1):
            if reached > saved:
                started = time.perf_counter()
                try:
                    found = self._guard(lambda steps=steps: self.evaluator.evaluate(candidate, steps))  # type: ignore[misc]
                except EvaluationFailed as failure:  # the rungs before it stay
                    return replace(record, state=State.FAILED, reason=str(failure))
                seconds = time.perf_counter() - started if found.seconds is None else found.seconds
                record = replace(record, rungs=(*record.rungs, _to_rung(found, steps, seconds)))
                if steps != rungs[-1]:
                    self.save(record)
            if steps != rungs[-1] and reached >= saved and not self.promotes(record):
                return replace(record, state=State.PRUNED)
        return replace(record, state=State.COMPLETED)

    def _guard(self, function: Callable[[], T]) -> T:
        """Call a function. Raises EvaluationFailed with the reason where it fails, or tries to end the process.

        A full or read-only disk, or no file descriptor, is no failure of a candidate: that OSError ends the search.
        """
        try:
            with catch_out_of_memory(lambda: MEMORY_HINT):
                return function()
        except TimeIsUp:
            raise
        except (Exception, SystemExit) as error:
            self.check_interrupt()  # Ctrl-C also ends a command that the evaluator runs
            if is_machine_fault(error):
                raise
            message = str(error) if isinstance(error, T2TBuildError) else f"{type(error).__name__}: {error}"
            raise EvaluationFailed(message.splitlines()[0] if message else "no reason given") from error


def _to_rung(found: Measurements, steps: int, seconds: float) -> Rung:
    """Return measurements as the result of a rung. What was not measured is not a number."""
    accuracy, loss = (math.nan if value is None else value for value in (found.accuracy, found.loss))
    return Rung(steps, accuracy, loss, seconds)
