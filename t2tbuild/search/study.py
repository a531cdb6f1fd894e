"""Ask, count, train, tell: a candidate is drawn within the budget, judged by fvcore, then trained from rung to rung."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import optuna
import torch
from pydantic import ValidationError

from t2tbuild.build import build_model
from t2tbuild.cost import Cost, measure_cost
from t2tbuild.errors import InputError, TrainingError
from t2tbuild.search.budget import deepest, fits, overshoot
from t2tbuild.search.ladder import Rung, climb
from t2tbuild.search.proxy import stand_in
from t2tbuild.search.record import BASE, Record, State, canonical
from t2tbuild.search.space import Space
from t2tbuild.search.storage import RECORD, read_records
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search
from t2tbuild.train.data import ImageData, mix

FRUITLESS = 100  # asks in a row without a new candidate, after which the space counts as exhausted

Listener = Callable[[Record], None]


class OutOfTime(KeyboardInterrupt):
    """The search's own time is up. A KeyboardInterrupt, so that Optuna ends the trial as FAIL and lets it through."""


class Explorer:
    """A search at work on one device: it trains the base first, then asks the study for candidates."""

    def __init__(
        self,
        study: optuna.Study,
        search: Search,
        space: Space,
        data: ImageData,
        device: torch.device,
        listener: Listener,
    ) -> None:
        self.study, self.search, self.space, self.data, self.device = study, search, space, data, device
        self.listener = listener
        self.deadline = time.monotonic() + search.timeout if search.timeout is not None else float("inf")

    def run(self) -> bool:
        """Work until enough candidates are trained; False when the time was up before."""
        try:
            if RECORD not in self.study.user_attrs:
                self._train_base()
            fruitless = 0
            while fruitless < FRUITLESS and self._trained() < self.search.trials:
                before = self._trained()
                self.study.optimize(self._objective, n_trials=1)
                fruitless = 0 if self._trained() > before else fruitless + 1
        except OutOfTime:
            return False
        return True

    def _trained(self) -> int:
        return sum(record.state.trained for record in read_records(self.study) if record.number != BASE)

    def _train_base(self) -> None:
        """The base is the yardstick: it climbs all rungs, outside the sampler's sight, and only if it fits."""
        record = Record(BASE, State.CLIMBING, self.space.base).costing(self._judge(self.space.base))
        if not fits(self.space.base, self.search.budget):
            record = replace(record, state=State.INFEASIBLE, reason="over budget, so not trained")
        else:
            for rung in self._climb(record, seed=self.search.seed):
                record = replace(record, rungs=(*record.rungs, rung))
                self.listener(record)
            record = replace(record, state=State.TOP)
        self.study.set_user_attr(RECORD, record.to_json())
        self.listener(record)

    def _objective(self, trial: optuna.Trial) -> float:
        record = self._draw(trial)
        if record.model is not None and record.state is State.CLIMBING:
            record = record.costing(self._judge(record.model))
            record = self._constrain(trial, record)
        if record.state is State.CLIMBING:
            record = self._train(trial, record)
        trial.set_user_attr(RECORD, record.to_json())
        self.listener(record)
        if record.state is not State.TOP or record.accuracy is None:
            raise optuna.TrialPruned
        return record.accuracy

    def _draw(self, trial: optuna.Trial) -> Record:
        """Draw a candidate whose depth is solved from the budget; nothing is built for one that cannot fit."""
        record = Record(str(trial.number), State.INFEASIBLE, None)
        assignment = self.space.draw(trial)
        try:
            depth = None
            if self.space.fill is not None:
                fraction = self.space.draw_fill(trial)
                limit = deepest(self.space, assignment, self.search.budget)
                if limit is None:
                    return replace(record, reason="over budget at every depth")
                depth = max(self.space.fill.low, int(fraction * limit + 0.5))
            model = self.space.model(assignment, depth, name=f"{self.search.name[:56]}_{trial.number:04}")
        except ValidationError as error:
            return replace(record, reason=error.errors()[0]["msg"])
        if not fits(model, self.search.budget):
            return replace(record, model=model, reason="over budget")
        for other in read_records(self.study):
            if other.model is not None and other.state.trained and canonical(other.model) == canonical(model):
                return replace(record, model=model, state=State.DUPLICATE, reason=f"same as {other.number}")
        return replace(record, model=model, state=State.CLIMBING)

    def _judge(self, model: ModelSpec) -> Cost:
        """Fvcore's count of the candidate at its full size."""
        return measure_cost(build_model(model))

    def _constrain(self, trial: optuna.Trial, record: Record) -> Record:
        """Tell the study the judge's verdict; one over budget by that count is not trained."""
        assert record.params is not None and record.macs is not None
        excess = overshoot(Cost(record.params, record.params, record.macs, ()), self.search.budget)
        for name, amount in excess.items():
            trial.set_constraint(name, amount)
        if any(amount > 0 for amount in excess.values()):
            return replace(record, state=State.INFEASIBLE, reason="over budget by fvcore's count")
        return record

    def _train(self, trial: optuna.Trial, record: Record) -> Record:
        """Climb until the pruner stops it. Rung k is told as step keep^k, which is where the pruner has its rungs."""
        self.listener(record)
        try:
            for index, rung in enumerate(self._climb(record, seed=mix(self.search.seed, trial.number) % 2**32)):
                record = replace(record, rungs=(*record.rungs, rung))
                trial.report(rung.accuracy, step=self.search.proxy.keep**index)
                if index < len(self.search.proxy.rungs) - 1:
                    self.listener(record)
                    if trial.should_prune():
                        return replace(record, state=State.STOPPED)
        except (TrainingError, InputError) as error:
            return replace(record, state=State.FAILED, reason=str(error))
        return replace(record, state=State.TOP)

    def _climb(self, record: Record, seed: int) -> Iterator[Rung]:
        assert record.model is not None
        model = stand_in(record.model, self.search.proxy, self.device.type)
        return climb(model, self.data, self.search.proxy, seed=seed, device=self.device, check=self._check)

    def _check(self) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime
