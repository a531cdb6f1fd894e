"""Ask, count, train, tell: a candidate is drawn within the budget, judged by fvcore, then trained from rung to rung."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum

import optuna
import torch
from pydantic import ValidationError

from t2tbuild.cost.counter import count_model
from t2tbuild.cost.fit import fits, overshoot
from t2tbuild.errors import InputError, TrainingError
from t2tbuild.search.budget import deepest
from t2tbuild.search.ladder import climb, goes_on
from t2tbuild.search.proxy import stand_in
from t2tbuild.search.record import BASE, Record, Rung, State, canonical
from t2tbuild.search.space import Space
from t2tbuild.search.storage import RECORD, ordinal, read_records
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search
from t2tbuild.train.data import Data
from t2tbuild.train.loop import memory_errors
from t2tbuild.train.order import mix

SMALLER = "a smaller batch_size or image_size may fit"
FRUITLESS = 100  # asks in a row without a new candidate, after which the space counts as exhausted
EXHAUSTED = "exhausted"

Listener = Callable[[Record], None]


class Outcome(StrEnum):
    """How a search ended."""

    COMPLETE = "complete"  # as many candidates were trained as asked for
    EXHAUSTED = "exhausted"  # the space gives no new candidate
    TIMEOUT = "timeout"


class OutOfTime(KeyboardInterrupt):
    """The search's own time is up. A KeyboardInterrupt, so that Optuna ends the trial as FAIL and lets it through."""


class Explorer:
    """A search at work on one device: it trains the base first, then asks the study for candidates."""

    def __init__(
        self,
        study: optuna.Study,
        search: Search,
        space: Space,
        data: Data,
        device: torch.device,
        listener: Listener,
    ) -> None:
        self.study, self.search, self.space, self.data, self.device = study, search, space, data, device
        self.listener = listener
        self.deadline = time.monotonic() + search.timeout if search.timeout is not None else float("inf")

    def run(self) -> Outcome:
        """Work until enough candidates are trained, the space is exhausted, or the time is up."""
        if RECORD not in self.study.user_attrs:
            self._train_base()
        fruitless = 0
        try:
            while (trained := self._trained()) < self.search.trials:
                if fruitless == FRUITLESS or EXHAUSTED in self.study.user_attrs:
                    self.study.set_user_attr(EXHAUSTED, True)
                    return Outcome.EXHAUSTED
                self._check_time()
                self.study.optimize(self._objective, n_trials=1)
                fruitless = 0 if self._trained() > trained else fruitless + 1
        except OutOfTime:
            return Outcome.TIMEOUT
        return Outcome.COMPLETE

    def _trained(self) -> int:
        return sum(record.state.trained for record in read_records(self.study) if record.number != BASE)

    def _train_base(self) -> None:
        """The base is the yardstick: it climbs all rungs, outside the sampler's sight, if it fits the budget."""
        record = self._judge(Record(BASE, State.CLIMBING, self.space.base))
        if record.state is State.CLIMBING:
            record = self._climb(record, self.search.seed, wanted=_always, check=_never_raise)
        self.study.set_user_attr(RECORD, record.to_json())
        self.listener(record)

    def _objective(self, trial: optuna.Trial) -> float:
        place = ordinal(self.study, trial.number)
        record = self._draw(trial, place)
        if record.state is State.CLIMBING:
            record = self._judge(record)
            assert record.params is not None and record.macs is not None
            for name, excess in overshoot(self.search.budget, params=record.params, macs=record.macs).items():
                trial.set_constraint(name, excess)
        if record.state is State.CLIMBING:
            seed = mix(self.search.seed, place) % 2**32
            record = self._climb(record, seed, wanted=self._goes_on, check=self._check_time)
            for rung in record.rungs:
                trial.report(rung.accuracy, step=rung.steps)
        trial.set_user_attr(RECORD, record.to_json())
        self.listener(record)
        if record.state is not State.TOP or record.accuracy is None:
            raise optuna.TrialPruned
        return record.accuracy

    def _draw(self, trial: optuna.Trial, place: int) -> Record:
        """Draw a candidate whose depth is solved from the budget; nothing is built for one that cannot fit."""
        record = Record(str(place), State.INFEASIBLE, None)
        assignment = self.space.draw(trial)
        try:
            depth = None
            if self.space.fill is not None:
                fraction = self.space.draw_fill(trial)
                limit = deepest(self.space, assignment, self.search.budget)
                if limit is None:
                    return replace(record, reason="over budget at every depth")
                depth = max(self.space.fill.low, int(fraction * limit + 0.5))
            model = self.space.model(assignment, depth, name=f"{self.search.name[:56]}_{place:04}")
        except ValidationError as error:
            return replace(record, reason=error.errors()[0]["msg"])
        if not fits(model, self.search.budget):
            return replace(record, model=model, reason="over budget")
        for other in read_records(self.study):
            if other.model is not None and other.state.trained and canonical(other.model) == canonical(model):
                return replace(record, model=model, state=State.DUPLICATE, reason=f"same as {other.number}")
        return replace(record, model=model, state=State.CLIMBING)

    def _judge(self, record: Record) -> Record:
        """Add fvcore's count of the candidate at its full size; one over budget by it is not trained."""
        assert record.model is not None
        cost = count_model(record.model)
        record = replace(record, params=cost.params, macs=cost.macs)
        excess = overshoot(self.search.budget, params=cost.params, macs=cost.macs)
        if any(amount > 0 for amount in excess.values()):
            return replace(record, state=State.INFEASIBLE, reason="over budget, so not trained")
        return record

    def _climb(
        self, record: Record, seed: int, *, wanted: Callable[[Record], bool], check: Callable[[], None]
    ) -> Record:
        """Train from rung to rung for as long as it is `wanted`; one that cannot go on is told with its cause."""
        self.listener(record)
        assert record.model is not None
        try:
            with memory_errors(lambda: SMALLER):
                for rung in self._rungs(record.model, seed, check):
                    record = replace(record, rungs=(*record.rungs, rung))
                    if rung.steps == self.search.proxy.rungs[-1]:
                        break
                    self.listener(record)
                    if not wanted(record):
                        return replace(record, state=State.STOPPED)
        except (TrainingError, InputError) as error:
            return replace(record, state=State.FAILED, reason=str(error))
        return replace(record, state=State.TOP)

    def _rungs(self, model: ModelSpec, seed: int, check: Callable[[], None]) -> Iterator[Rung]:
        twin = stand_in(model, self.search.proxy, self.device.type)
        return climb(twin, self.data, self.search.proxy, seed=seed, device=self.device, check=check)

    def _goes_on(self, record: Record) -> bool:
        """Compare with the earlier candidates at the same rung; the base is no candidate."""
        height, last = len(record.rungs), record.rungs[-1]
        others = (other for other in read_records(self.study) if other.number != BASE and len(other.rungs) >= height)
        return goes_on(last.accuracy, [other.rungs[height - 1].accuracy for other in others], self.search.proxy.keep)

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime


def _always(_record: Record) -> bool:
    return True


def _never_raise() -> None:
    pass
