"""One worker of a search: it takes whatever is to be trained next, from the storage that all workers share."""

import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from t2tbuild.accuracy.features import shape_of
from t2tbuild.accuracy.predictor import DEFAULT_RECIPE, predict_accuracy, shipped_predictor
from t2tbuild.cost.counter import count_model
from t2tbuild.errors import T2TBuildError
from t2tbuild.nas.budget import Infeasible, excess, solve
from t2tbuild.nas.correlations import trusted_score
from t2tbuild.nas.evaluator import Evaluator
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Record, Rung, Source, State, key_of
from t2tbuild.nas.reference_runs import base_trainings, confirmations, noise_floor, reserve
from t2tbuild.nas.sampler import Draw, FeasibleSampler, place_of
from t2tbuild.nas.space import FILL, Assignment, category
from t2tbuild.nas.storage import RECORD, retry_stale
from t2tbuild.nas.store import Studies, counted, enqueue, requeue
from t2tbuild.nas.successive_halving import should_promote
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import Value
from t2tbuild.training.loop import memory_errors
from t2tbuild.training.signals import Interrupt

SMALLER = "a smaller batch_size or image_size may fit"
POLL = 0.5  # seconds between looks at what other workers do
EXHAUSTED = "exhausted"
DRAWS = 64
"""Draws of which the best predicted is trained, where the prediction decides and the space is too large to predict
every member."""

Listener = Callable[[Record], None]


class Outcome(StrEnum):
    """How a search ended."""

    COMPLETE = "complete"  # as many candidates were trained as asked for
    EXHAUSTED = "exhausted"  # the space gives no new candidate
    TIMEOUT = "timeout"
    UNFINISHED = "unfinished"  # it may still be under way


class _Nothing(Exception):  # noqa: N818  # no error: the trial ends as FAIL and is forgotten
    """There is nothing to train: what was asked for is surplus, or another worker has it."""


class _OutOfTime(Exception):  # noqa: N818
    """The time of this phase is up; what is being trained may be trained on later."""


class Worker:
    """A search at work on one device: base, candidates, then confirmations, beside any number of other workers.

    `deadline` is on time.monotonic's clock. `listener` hears of what this worker trains.
    """

    def __init__(
        self,
        studies: Studies,
        sampler: FeasibleSampler,
        search: Search,
        plan: Plan,
        judges: Evaluator,
        run: Path,
        *,
        listener: Listener,
        interrupt: Interrupt,
        deadline: float = float("inf"),
        workers: int = 1,
    ) -> None:
        self.studies, self.sampler, self.search, self.plan = studies, sampler, search, plan
        self.judges, self.run_folder = judges, run
        self.listener, self.interrupt, self.deadline, self.workers = listener, interrupt, deadline, workers
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._current: tuple[optuna.Trial, dict[str, Any]] | None = None

    def run(self) -> None:
        """Work until nothing is left to do, here or for others."""
        if not counted(self.studies.references):
            enqueue(self.studies.references, base_trainings(self.search, self.plan.base))
        while True:
            if self._wants_reference() and self._take(self.studies.references, self._reference):
                continue
            if self._wants_candidate() and self._take(self.studies.candidates, self._candidate):
                continue
            if self._others_work():
                time.sleep(POLL)
                continue
            planned = confirmations(self.search, self.studies.records(), self.studies.repeats())
            if not planned or time.monotonic() > self.deadline:
                return
            enqueue(self.studies.references, planned)

    # What to do next

    def _wants_candidate(self) -> bool:
        if self._asking_ends() < time.monotonic():
            return False
        waiting = _in_state(self.studies.candidates, TrialState.WAITING)
        return bool(waiting) or (not self.studies.noted(EXHAUSTED) and claimed(self.studies) < self.search.trials)

    def _asking_ends(self) -> float:
        """When the last part of the time begins, which belongs to the confirmations."""
        return self.deadline - reserve(self.search, self.studies.records(), self.studies.repeats(), self.workers)

    def _others_work(self) -> bool:
        """Whether another worker trains something; what a dead one left is made to wait for whoever asks."""
        for study in (self.studies.candidates, self.studies.references):
            retry_stale(study)
        late = time.monotonic() > self.deadline
        waiting = _in_state(self.studies.references, TrialState.WAITING)
        running = [
            trial
            for study in (self.studies.candidates, self.studies.references)
            for trial in _in_state(study, TrialState.RUNNING)
        ]
        self._check_interrupt()
        return not late and bool(running or waiting)

    def _wants_reference(self) -> bool:
        waits = bool(_in_state(self.studies.references, TrialState.WAITING))
        return waits and (time.monotonic() < self.deadline or not self._base_is_trained())

    def _take(self, study: optuna.Study, objective: Callable[[optuna.Trial], Any]) -> bool:
        """Train what is to be trained next; whether there was time for it.

        What was stopped before its end is asked for again, by this search or by one that continues it.
        """
        self._check_interrupt()  # before a trial is taken, so that none is lost by it
        self._current = None
        try:
            study.optimize(objective, n_trials=1, catch=(_Nothing,))
        except (UpdateFinishedTrialError, ValueError):
            if not self._was_taken_for_dead(study):
                raise
        except (KeyboardInterrupt, _OutOfTime) as stop:
            if self._current is not None:
                trial, record = self._current
                requeue(study, trial, {RECORD: record})
            if isinstance(stop, _OutOfTime):
                return False
            raise
        return True

    def _was_taken_for_dead(self, study: optuna.Study) -> bool:
        """Whether what this worker trained was given to another, since it was silent for too long."""
        if self._current is None:
            return False
        number = self._current[0].number
        return study.get_trials(deepcopy=False)[number].state is TrialState.FAIL

    def _base_is_trained(self) -> bool:
        return any(record.number == BASE and record.state is not State.CLIMBING for record in self.studies.repeats())

    def _check_interrupt(self) -> None:
        if self.interrupt:
            raise self.interrupt.error()

    def _check_until(self, deadline: float) -> Callable[[], None]:
        def check() -> None:
            self._check_interrupt()
            if time.monotonic() > deadline:
                raise _OutOfTime

        return check

    # Candidates

    def _candidate(self, trial: optuna.Trial) -> float | Sequence[float]:
        record = self._drawn(trial)
        if record.state is State.CLIMBING:
            wanted = self._goes_on(place_of(self.studies.candidates, trial.number))
            record = self._climb(self.studies.candidates, trial, record, wanted, self._check_until(self._asking_ends()))
        self._note(trial, record)
        return self._value(trial, record)

    def _value(self, trial: optuna.Trial, record: Record) -> float | Sequence[float]:
        """What Optuna learns from. Raises TrialPruned for what did not reach the highest rung, or has no value."""
        ranking = self._ranking()
        value = ranking.value(record)
        if len(self.search.objectives) == 1:
            for rung in record.rungs:
                at_rung = ranking.value(record, rung.steps)
                if math.isfinite(at_rung):
                    trial.report(at_rung, step=rung.steps)
            if record.state is not State.TOP or not math.isfinite(value):
                raise optuna.TrialPruned
            return value
        if not record.rungs or not math.isfinite(value):
            raise optuna.TrialPruned
        found = {"accuracy": value}
        return [found.get(name, getattr(record, name, None) or 0.0) for name in self.search.objectives]

    def _ranking(self) -> Ranking:
        """Candidates by all that is known by now."""
        return Ranking(self.search, ranked_together(self.studies.records(), self.studies.repeats()))

    def _drawn(self, trial: optuna.Trial) -> Record:
        """The candidate of a trial: as its earlier worker left it, else as it is drawn now."""
        if RECORD in trial.user_attrs:
            record = Record.from_json(trial.user_attrs[RECORD])
            if self._is_elsewhere(self.studies.candidates, trial, record):
                raise _Nothing
            return replace(record, worker=self.name)
        if claimed(self.studies, before=trial.number) >= self.search.trials:
            raise _Nothing  # another worker asked for the last one first
        named = trial.user_attrs.get("named")
        self._choose_draws()
        _ = trial.relative_params  # Optuna draws when it is first asked for a value
        draw = None if named else self.sampler.chosen
        if draw is None and not named:
            self.studies.note(EXHAUSTED, value=True)
            raise _Nothing
        number = named or self._number(trial)
        record = Record(
            number, State.INFEASIBLE, None, arm=Source.NAMED if draw is None else draw.arm, worker=self.name
        )
        if draw is not None:
            record = replace(record, infeasible=draw.infeasible, duplicates=draw.duplicates, passed=draw.passed)
        try:
            assignment = self._suggest(trial)
            name = named or f"{self.search.name[:56]}_{int(number):04}"
            model = solve(self.plan.space, assignment, self.search.budget, name)
        except Infeasible as error:
            return replace(record, reason=str(error))
        record = replace(record, model=model, key=key_of(model), state=State.CLIMBING)
        self._note(trial, record)
        if self._is_elsewhere(self.studies.candidates, trial, record):
            return replace(record, state=State.DUPLICATE, reason="another worker drew it in the same instant")
        return record

    def _number(self, trial: optuna.Trial) -> str:
        """What a candidate is called: its place, or the next that is free where another worker's death moved places."""
        others = [other for other in counted(self.studies.candidates) if other.number != trial.number]
        taken = {other.user_attrs[RECORD]["number"] for other in others if RECORD in other.user_attrs}
        place = place_of(self.studies.candidates, trial.number)
        while str(place) in taken:
            place += 1
        return str(place)

    def _choose_draws(self) -> None:
        """Let the sampler choose among several draws: by prediction, else by a zero-cost proxy that has earned it."""
        search, self.sampler.pool = self.search, 1
        if len(search.objectives) > 1:
            return  # the sampler weighs accuracy against cost
        if predict_accuracy(self.plan.base).top1 is not None:
            alone = search.sampler == "predicted" and search.target == "imagenet"
            self.sampler.pool = max(search.scores.pool, DRAWS) if alone else search.scores.pool
            self.sampler.prefer = _best_predicted_draw
        elif (name := trusted_score(self.studies.records(), search)) is not None:
            self.sampler.pool = search.scores.pool
            self.sampler.prefer = partial(self.judges.prefer, name=name)

    def _suggest(self, trial: optuna.Trial) -> Assignment:
        """Tell Optuna what was drawn, field by field."""
        space = self.plan.space

        def pick(path: str, values: Sequence[Value]) -> Value:
            if isinstance(values, range):
                return trial.suggest_int(path, values[0], values[-1], step=values.step)
            message = trial.suggest_categorical(path, [category(value) for value in values])
            return next(value for value in values if category(value) == message)

        assignment = space.draw(pick)
        if space.solved is not None:
            assignment[FILL] = trial.suggest_float(FILL, *space.solved.fill.fill)
        return assignment

    def _is_elsewhere(self, study: optuna.Study, trial: optuna.Trial, record: Record) -> bool:
        """Whether a trial that was asked for before this one trains the same."""
        for other in counted(study):
            if other.number < trial.number and RECORD in other.user_attrs:
                data = other.user_attrs[RECORD]
                if (data["key"], data["seed"], data["full"]) == (record.key, record.seed, record.full):
                    return True
        return False

    def _goes_on(self, place: int) -> Callable[[Record], bool]:
        proxy = self.search.proxy
        spared = place % len(proxy.rungs) if proxy.stop == "hyperband" else 0

        def wanted(record: Record) -> bool:
            height, last = len(record.rungs), record.rungs[-1]
            if proxy.stop == "never" or height <= spared:
                return True
            repeats, ranking = self.studies.repeats(), self._ranking()
            if not ranking.training_counts:
                return True  # trainings show that candidates train, and how fast; they stop none
            others = [other for other in self.studies.records() if other.key != record.key and other.at(last.steps)]
            peers = [ranking.value(other, last.steps) for other in others]
            if ranking.by_prediction:
                return should_promote(ranking.value(record, last.steps), peers, proxy.keep)
            floor = noise_floor(repeats, last.steps, proxy.metric)
            if floor is None and any(one.number == BASE and one.state is State.CLIMBING for one in repeats):
                return True  # what seeds alone do at this rung is about to be known
            return should_promote(ranking.value(record, last.steps), peers, proxy.keep, floor or 0.0)

        return wanted

    # References

    def _reference(self, trial: optuna.Trial) -> float:
        if RECORD not in trial.user_attrs:
            raise _Nothing
        record = replace(Record.from_json(trial.user_attrs[RECORD]), worker=self.name)
        if self._is_elsewhere(self.studies.references, trial, record):
            raise _Nothing
        if record.state is State.CLIMBING:
            first = record.number == BASE and record.seed == 0  # so that there is something to tell
            check = self._check_until(float("inf") if first else self.deadline)
            record = self._climb(self.studies.references, trial, record, _always, check)
        self._note(trial, record)
        if not record.rungs:
            raise optuna.TrialPruned
        return record.score(self.search.proxy.metric)

    # Both

    def _counted(self, trial: optuna.Trial, record: Record) -> Record:
        """Add fvcore's count of the candidate at its full size; one over budget by it, or too slow, is not trained."""
        model = record.model
        assert model is not None
        cost = count_model(model)
        record = replace(record, params=cost.params, macs=cost.macs)
        measures: dict[str, float] = {"params": cost.params, "macs": cost.macs}
        if self.judges.wants("activations"):
            record = replace(record, activations=self.judges.activations(model))
            measures["activations"] = record.activations or 0
        outside = dict(excess(measures, self.search.budget))
        if self.judges.wants("latency"):
            record = replace(record, latency=self.judges.latency(model))
            if self.search.budget.latency is not None:
                outside["latency"] = (record.latency or 0.0) - self.search.budget.latency
        for name, amount in outside.items():
            trial.set_constraint(name, amount)
        over = [name for name, amount in outside.items() if amount > 0]
        if over:
            return replace(record, state=State.INFEASIBLE, reason=f"{', '.join(over)} over budget, so not trained")
        return record

    def _climb(
        self,
        study: optuna.Study,
        trial: optuna.Trial,
        record: Record,
        wanted: Callable[[Record], bool],
        check: Callable[[], None],
    ) -> Record:
        """Count it, then train it from rung to rung for as long as it is `wanted`.

        One that is over the budget by fvcore's count is not trained, and one that cannot go on ends with its cause.
        """
        self._note(trial, record)
        folder = folder_of(self.run_folder, record)
        try:
            with memory_errors(lambda: SMALLER):
                if study is self.studies.candidates or record.macs is None:
                    record = self._counted(trial, record)
                if record.state is State.CLIMBING:
                    judged = len(record.rungs)  # by an earlier process, and found worth going on
                    record = replace(self.judges.score(record), rungs=())
                    rungs = self.judges.climber(record).climb(check, folder)
                    record = self._trained(trial, record, rungs, lambda one: len(one.rungs) < judged or wanted(one))
        except (_OutOfTime, optuna.exceptions.OptunaError):
            raise
        except Exception as error:  # of this one training: it fails, with its cause, and nothing else does
            message = str(error) if isinstance(error, T2TBuildError) else f"{type(error).__name__}: {error}"
            record = replace(
                record, state=State.FAILED, reason=message.splitlines()[0] if message else "no reason given"
            )
        if study is self.studies.candidates:
            shutil.rmtree(folder, ignore_errors=True)
        return record

    def _trained(
        self, trial: optuna.Trial, record: Record, rungs: Iterator[Rung], wanted: Callable[[Record], bool]
    ) -> Record:
        """The record with each rung as it is reached."""
        for rung in rungs:
            record = replace(record, rungs=(*record.rungs, rung))
            if rung.steps == self.search.proxy.rungs[-1]:
                break
            self._note(trial, record)
            if not wanted(record):
                return replace(record, state=State.STOPPED)
        return replace(record, state=State.TOP)

    def _note(self, trial: optuna.Trial, record: Record) -> None:
        """Tell the storage and the listener what is known of a training by now."""
        message = record.to_json()
        self._current = (trial, message) if record.state is State.CLIMBING else None
        trial.set_user_attr(RECORD, message)
        self.listener(record)


def folder_of(run: Path, record: Record) -> Path:
    """Where the rungs of a training are kept."""
    return run / "trials" / f"{record.key}-{record.seed}{'-full' if record.full else ''}"


def ranked_together(records: Sequence[Record], repeats: Sequence[Record]) -> list[Record]:
    """The records whose results are compared: the candidates, and the base's first training."""
    return [*records, *(record for record in repeats if record.number == BASE and record.seed == 0)]


def _best_predicted_draw(draws: Sequence[Draw]) -> Draw:
    """Of several draws the one of the best predicted accuracy; those far from published models come last."""
    predictor = shipped_predictor()

    def rank(draw: Draw) -> tuple[bool, float]:
        shape = shape_of(draw.model)
        return bool(predictor.outside(shape)), predictor.estimate(shape, DEFAULT_RECIPE).upper

    return min(draws, key=rank)


def _in_state(study: optuna.Study, state: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(state,))


def _is_trained(trial: FrozenTrial) -> bool:
    state = State(trial.user_attrs[RECORD]["state"])
    return state.trained or state is State.CLIMBING


def _always(_record: Record) -> bool:
    return True


def outcome_of(studies: Studies, search: Search) -> Outcome:
    """How a search ended, by what its studies hold; unfinished where something is left to train."""
    records, repeats = studies.records(), studies.repeats()
    if any(record.state is State.CLIMBING for record in (*records, *repeats)):
        return Outcome.UNFINISHED
    if confirmations(search, records, repeats):
        return Outcome.UNFINISHED
    if sum(record.state.trained for record in records) >= search.trials:
        return Outcome.COMPLETE
    return Outcome.EXHAUSTED if studies.noted(EXHAUSTED) else Outcome.UNFINISHED


def claimed(studies: Studies, before: float = float("inf")) -> int:
    """Candidates that are trained or on their way, of those asked for before a trial of a number."""
    trials = (trial for trial in counted(studies.candidates) if trial.number < before)
    return sum(RECORD not in trial.user_attrs or _is_trained(trial) for trial in trials)
