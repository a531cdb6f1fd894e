"""One worker of a search: it trains reference runs and candidates from the storage that all workers share."""

import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from t2tbuild.accuracy.features import shape_of
from t2tbuild.accuracy.predictor import predict_accuracy, predicted_error_bound, shipped_predictor
from t2tbuild.cost.budget import excess
from t2tbuild.cost.counter import count_model
from t2tbuild.errors import T2TBuildError
from t2tbuild.nas.budget import Infeasible, solve
from t2tbuild.nas.correlations import select_zero_cost_proxy
from t2tbuild.nas.evaluator import Evaluator
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Outcome, Record, Rung, Source, State
from t2tbuild.nas.reference_runs import base_seed_std, plan_base_runs, plan_confirmations, reserved_seconds
from t2tbuild.nas.sampler import Draw, FeasibleSampler, trial_index
from t2tbuild.nas.space import FILL, Assignment, to_category
from t2tbuild.nas.storage import RECORD, retry_stale
from t2tbuild.nas.store import Studies, enqueue, requeue, valid_trials
from t2tbuild.nas.successive_halving import should_promote
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import Value
from t2tbuild.training.loop import catch_out_of_memory
from t2tbuild.training.signals import Interrupt

MEMORY_HINT = "a smaller batch_size or image_size may fit"
POLL_SECONDS = 0.5  # between checks of the other workers
EXHAUSTED = "exhausted"
"""Key of the study's metadata: true once the space has no new candidate."""
PREDICTED_POOL = 64
"""Draws of which the best predicted is trained, where the prediction ranks and the space is too large to enumerate."""

Listener = Callable[[Record], None]


class _NothingToTrain(Exception):  # noqa: N818  # not an error: the trial ends as FAIL and does not count
    """The trial is not needed: the search has enough candidates, or another worker trains the same."""


class _TimeIsUp(Exception):  # noqa: N818
    """The time of this phase is over. The training can be continued later."""


class Worker:
    """A worker on one device. It trains the base, the candidates and the confirmation runs, alongside other workers.

    `deadline` is a time.monotonic(). `listener` is called with each record that this worker changes.
    """

    def __init__(
        self,
        studies: Studies,
        sampler: FeasibleSampler,
        search: Search,
        plan: Plan,
        evaluator: Evaluator,
        run: Path,
        *,
        listener: Listener,
        interrupt: Interrupt,
        deadline: float = float("inf"),
        workers: int = 1,
    ) -> None:
        self.studies, self.sampler, self.search, self.plan = studies, sampler, search, plan
        self.evaluator, self.run_folder = evaluator, run
        self.listener, self.interrupt, self.deadline, self.workers = listener, interrupt, deadline, workers
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._current: tuple[optuna.Trial, dict[str, Any]] | None = None

    def run(self) -> None:
        """Train until this worker and all others have nothing left to train."""
        if not valid_trials(self.studies.references):
            enqueue(self.studies.references, plan_base_runs(self.search, self.plan.base))
        while True:
            if self._should_run_reference() and self._run_next(self.studies.references, self._run_reference):
                continue
            if self._should_run_candidate() and self._run_next(self.studies.candidates, self._run_candidate):
                continue
            if self._others_are_running():
                time.sleep(POLL_SECONDS)
                continue
            planned = plan_confirmations(self.search, self.studies.records(), self.studies.reference_runs())
            if not planned or time.monotonic() > self.deadline:
                return
            enqueue(self.studies.references, planned)

    # Choosing the next training

    def _should_run_candidate(self) -> bool:
        if self._sampling_deadline() < time.monotonic():
            return False
        waiting = _in_state(self.studies.candidates, TrialState.WAITING)
        return bool(waiting) or (
            not self.studies.get_meta(EXHAUSTED) and count_claimed(self.studies) < self.search.trials
        )

    def _sampling_deadline(self) -> float:
        """Return when sampling ends, so that the confirmation runs have time left."""
        return self.deadline - reserved_seconds(
            self.search, self.studies.records(), self.studies.reference_runs(), self.workers
        )

    def _others_are_running(self) -> bool:
        """Whether to wait for trainings of other workers, before the deadline. Stale trials are queued again."""
        for study in (self.studies.candidates, self.studies.references):
            retry_stale(study)
        is_late = time.monotonic() > self.deadline
        waiting = _in_state(self.studies.references, TrialState.WAITING)
        running = [
            trial
            for study in (self.studies.candidates, self.studies.references)
            for trial in _in_state(study, TrialState.RUNNING)
        ]
        self._check_interrupt()
        return not is_late and bool(running or waiting)

    def _should_run_reference(self) -> bool:
        waits = bool(_in_state(self.studies.references, TrialState.WAITING))
        return waits and (time.monotonic() < self.deadline or not self._base_is_trained())

    def _run_next(self, study: optuna.Study, objective: Callable[[optuna.Trial], Any]) -> bool:
        """Run the next trial of a study. Returns False if the deadline passed before its end.

        An interrupted trial is queued again, for this search or for one that continues it.
        """
        self._check_interrupt()  # before a trial is created
        self._current = None
        try:
            study.optimize(objective, n_trials=1, catch=(_NothingToTrain,))
        except (UpdateFinishedTrialError, ValueError):
            if not self._was_reassigned(study):
                raise
        except (KeyboardInterrupt, _TimeIsUp) as stop:
            if self._current is not None:
                trial, record = self._current
                requeue(study, trial, {RECORD: record})
            if isinstance(stop, _TimeIsUp):
                return False
            raise
        return True

    def _was_reassigned(self, study: optuna.Study) -> bool:
        """Whether this worker's heartbeat was missing for so long that its trial was given to another worker."""
        if self._current is None:
            return False
        number = self._current[0].number
        return study.get_trials(deepcopy=False)[number].state is TrialState.FAIL

    def _base_is_trained(self) -> bool:
        runs = self.studies.reference_runs()
        return any(record.number == BASE and record.state is not State.RUNNING for record in runs)

    def _check_interrupt(self) -> None:
        if self.interrupt:
            raise self.interrupt.exception()

    def _make_check(self, deadline: float) -> Callable[[], None]:
        def check() -> None:
            self._check_interrupt()
            if time.monotonic() > deadline:
                raise _TimeIsUp

        return check

    # Candidates

    def _run_candidate(self, trial: optuna.Trial) -> float | Sequence[float]:
        record = self._draw_record(trial)
        if record.state is State.RUNNING:
            promotes = self._promotion_rule(trial_index(self.studies.candidates, trial.number))
            check = self._make_check(self._sampling_deadline())
            record = self._train(self.studies.candidates, trial, record, promotes, check)
        self._save(trial, record)
        return self._value(trial, record)

    def _value(self, trial: optuna.Trial, record: Record) -> float | Sequence[float]:
        """Return the objective values for Optuna. Raises TrialPruned for a record that is not completed or has none."""
        ranking = self._ranking()
        value = ranking.value(record)
        if len(self.search.objectives) == 1:
            for rung in record.rungs:
                at_rung = ranking.value(record, rung.steps)
                if math.isfinite(at_rung):
                    trial.report(at_rung, step=rung.steps)
            if record.state is not State.COMPLETED or not math.isfinite(value):
                raise optuna.TrialPruned
            return value
        if not record.rungs or not math.isfinite(value):
            raise optuna.TrialPruned
        found = {"accuracy": value}
        return [found.get(name, getattr(record, name, None) or 0.0) for name in self.search.objectives]

    def _ranking(self) -> Ranking:
        """Return the ranking by all results so far."""
        return Ranking(self.search, comparable_records(self.studies.records(), self.studies.reference_runs()))

    def _draw_record(self, trial: optuna.Trial) -> Record:
        """Return the record of a trial: that of an earlier worker, or one with a new draw."""
        if RECORD in trial.user_attrs:
            record = Record.from_json(trial.user_attrs[RECORD])
            if self._is_duplicate(self.studies.candidates, trial, record):
                raise _NothingToTrain
            return replace(record, worker=self.name)
        if count_claimed(self.studies, before=trial.number) >= self.search.trials:
            raise _NothingToTrain  # another worker has the last one
        named = trial.user_attrs.get("named")
        self._configure_pool()
        _ = trial.relative_params  # Optuna samples on the first access
        draw = None if named else self.sampler.chosen
        if draw is None and not named:
            self.studies.set_meta(EXHAUSTED, value=True)
            raise _NothingToTrain
        number = named or self._candidate_number(trial)
        record = Record(
            number, State.INFEASIBLE, None, source=Source.NAMED if draw is None else draw.source, worker=self.name
        )
        if draw is not None:
            rejected = {name: getattr(draw, name) for name in ("infeasible", "duplicates", "passed_over")}
            record = replace(record, **rejected)
        try:
            assignment = self._suggest(trial)
            name = named or f"{self.search.name[:56]}_{int(number):04}"
            model = solve(self.plan.space, assignment, self.search.budget, name)
        except Infeasible as error:
            return replace(record, reason=str(error))
        record = replace(record, model=model, key=key_of(model), state=State.RUNNING)
        self._save(trial, record)
        if self._is_duplicate(self.studies.candidates, trial, record):
            return replace(record, state=State.DUPLICATE, reason="another worker sampled it at the same time")
        return record

    def _candidate_number(self, trial: optuna.Trial) -> str:
        """Return a candidate's number: its index, or the next free one where a dead worker's trial shifted indices."""
        others = [other for other in valid_trials(self.studies.candidates) if other.number != trial.number]
        taken = {other.user_attrs[RECORD]["number"] for other in others if RECORD in other.user_attrs}
        index = trial_index(self.studies.candidates, trial.number)
        while str(index) in taken:
            index += 1
        return str(index)

    def _configure_pool(self) -> None:
        """Set how many draws the sampler chooses from, and how: by prediction, else by a zero-cost proxy."""
        search, self.sampler.pool = self.search, 1
        if len(search.objectives) > 1:
            return  # the sampler trades accuracy against cost
        if predict_accuracy(self.plan.base).top1 is not None:
            is_predicted = search.sampler == "predicted" and search.target == "imagenet"
            self.sampler.pool = max(search.zero_cost.pool, PREDICTED_POOL) if is_predicted else search.zero_cost.pool
            self.sampler.choose_draw = _best_predicted
        elif (name := select_zero_cost_proxy(self.studies.records(), search)) is not None:
            self.sampler.pool = search.zero_cost.pool
            self.sampler.choose_draw = partial(self.evaluator.choose_draw, name=name)

    def _suggest(self, trial: optuna.Trial) -> Assignment:
        """Suggest each field of the draw to Optuna, and return the assignment."""
        space = self.plan.space

        def pick(path: str, values: Sequence[Value]) -> Value:
            if isinstance(values, range):
                return trial.suggest_int(path, values[0], values[-1], step=values.step)
            suggested = trial.suggest_categorical(path, [to_category(value) for value in values])
            return next(value for value in values if to_category(value) == suggested)

        assignment = space.draw(pick)
        if space.solved is not None:
            assignment[FILL] = trial.suggest_float(FILL, *space.solved.fill.fill)
        return assignment

    def _is_duplicate(self, study: optuna.Study, trial: optuna.Trial, record: Record) -> bool:
        """Whether an earlier trial trains the same candidate with the same seed."""
        for other in valid_trials(study):
            if other.number < trial.number and RECORD in other.user_attrs:
                data = other.user_attrs[RECORD]
                if (data["key"], data["seed"], data["full"]) == (record.key, record.seed, record.full):
                    return True
        return False

    def _promotion_rule(self, index: int) -> Callable[[Record], bool]:
        """Return the rule that promotes or prunes the candidate of an index at each rung."""
        proxy = self.search.proxy
        skipped = index % len(proxy.rungs) if proxy.scheduler == "hyperband" else 0

        def promotes(record: Record) -> bool:
            reached, last = len(record.rungs), record.rungs[-1]
            if proxy.scheduler == "never" or reached <= skipped:
                return True
            reference_runs, ranking = self.studies.reference_runs(), self._ranking()
            if not ranking.uses_training:
                return True  # invalid evidence prunes no candidate
            others = [other for other in self.studies.records() if other.key != record.key and other.at(last.steps)]
            peers = [ranking.value(other, last.steps) for other in others]
            if ranking.uses_prediction:
                return should_promote(ranking.value(record, last.steps), peers, proxy.reduction_factor)
            floor = base_seed_std(reference_runs, last.steps, proxy.metric)
            if floor is None and any(one.number == BASE and one.state is State.RUNNING for one in reference_runs):
                return True  # the seed noise at this rung is not measured yet
            return should_promote(ranking.value(record, last.steps), peers, proxy.reduction_factor, floor or 0.0)

        return promotes

    # References

    def _run_reference(self, trial: optuna.Trial) -> float:
        if RECORD not in trial.user_attrs:
            raise _NothingToTrain
        record = replace(Record.from_json(trial.user_attrs[RECORD]), worker=self.name)
        if self._is_duplicate(self.studies.references, trial, record):
            raise _NothingToTrain
        if record.state is State.RUNNING:
            is_first = record.number == BASE and record.seed == 0  # never timed out: a report needs the base
            check = self._make_check(float("inf") if is_first else self.deadline)
            record = self._train(self.studies.references, trial, record, _always_promote, check)
        self._save(trial, record)
        if not record.rungs:
            raise optuna.TrialPruned
        return record.score(self.search.proxy.metric)

    # Candidates and references

    def _measure_cost(self, trial: optuna.Trial, record: Record) -> Record:
        """Count and measure the cost of a record at full size. One over budget becomes infeasible."""
        model = record.model
        assert model is not None
        cost = count_model(model)
        record = replace(record, params=cost.params, macs=cost.macs)
        if self.evaluator.needs("activations"):
            record = replace(record, activations=self.evaluator.predict_activations(model))
        if self.evaluator.needs("latency"):
            record = replace(record, latency=self.evaluator.measure_latency(model))
        outside = excess(record.measures, self.search.budget)
        for name, amount in outside.items():
            trial.set_constraint(name, amount)
        over = [name for name, amount in outside.items() if amount > 0]
        if over:
            return replace(record, state=State.INFEASIBLE, reason=f"{', '.join(over)} over budget, so not trained")
        return record

    def _train(
        self,
        study: optuna.Study,
        trial: optuna.Trial,
        record: Record,
        promotes: Callable[[Record], bool],
        check: Callable[[], None],
    ) -> Record:
        """Measure the cost of a record, then train it from rung to rung while `promotes` returns True.

        A candidate over budget is not trained. One whose training fails is recorded with the reason.
        """
        self._save(trial, record)
        folder = trial_folder(self.run_folder, record)
        try:
            with catch_out_of_memory(lambda: MEMORY_HINT):
                if study is self.studies.candidates or record.macs is None:
                    record = self._measure_cost(trial, record)
                if record.state is State.RUNNING:
                    before = len(record.rungs)  # an earlier process promoted it from the rungs before the last of these
                    record = replace(self.evaluator.add_zero_cost(record), rungs=())
                    rungs = self.evaluator.make_trainer(record).train(check, folder)
                    record = self._train_rungs(
                        trial, record, rungs, lambda one: len(one.rungs) < before or promotes(one)
                    )
        except (_TimeIsUp, optuna.exceptions.OptunaError):
            raise
        except Exception as error:  # fails this training only
            message = str(error) if isinstance(error, T2TBuildError) else f"{type(error).__name__}: {error}"
            record = replace(
                record, state=State.FAILED, reason=message.splitlines()[0] if message else "no reason given"
            )
        if study is self.studies.candidates:
            shutil.rmtree(folder, ignore_errors=True)
        return record

    def _train_rungs(
        self, trial: optuna.Trial, record: Record, rungs: Iterator[Rung], promotes: Callable[[Record], bool]
    ) -> Record:
        """Return the record with the rungs that it reaches, saved at each."""
        for rung in rungs:
            record = replace(record, rungs=(*record.rungs, rung))
            if rung.steps == self.search.proxy.rungs[-1]:
                break
            self._save(trial, record)
            if not promotes(record):
                return replace(record, state=State.PRUNED)
        return replace(record, state=State.COMPLETED)

    def _save(self, trial: optuna.Trial, record: Record) -> None:
        """Store the record and pass it to the listener."""
        data = record.to_json()
        self._current = (trial, data) if record.state is State.RUNNING else None
        trial.set_user_attr(RECORD, data)
        self.listener(record)


def trial_folder(run: Path, record: Record) -> Path:
    """Return the folder of a training's checkpoints."""
    return run / "trials" / f"{record.key}-{record.seed}{'-full' if record.full else ''}"


def comparable_records(records: Sequence[Record], reference_runs: Sequence[Record]) -> list[Record]:
    """Return the records whose results are standardised together: the candidates and the base's first training."""
    return [*records, *(record for record in reference_runs if record.number == BASE and record.seed == 0)]


def _best_predicted(draws: Sequence[Draw]) -> Draw:
    """Return the draw of the best predicted accuracy; draws far from published models rank last."""

    def rank(draw: Draw) -> tuple[bool, float]:
        shape = shape_of(draw.model)
        return bool(shipped_predictor().reason_not_predicted(shape)), predicted_error_bound(shape)

    return min(draws, key=rank)


def _in_state(study: optuna.Study, state: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(state,))


def _is_claimed(trial: FrozenTrial) -> bool:
    state = State(trial.user_attrs[RECORD]["state"])
    return state.trained or state is State.RUNNING


def _always_promote(_record: Record) -> bool:
    return True


def get_outcome(studies: Studies, search: Search) -> Outcome:
    """Return how a search ended, by its studies: unfinished where anything is left to train."""
    records, reference_runs = studies.records(), studies.reference_runs()
    if any(record.state is State.RUNNING for record in (*records, *reference_runs)):
        return Outcome.UNFINISHED
    if plan_confirmations(search, records, reference_runs):
        return Outcome.UNFINISHED
    if sum(record.state.trained for record in records) >= search.trials:
        return Outcome.COMPLETE
    return Outcome.EXHAUSTED if studies.get_meta(EXHAUSTED) else Outcome.UNFINISHED


def count_claimed(studies: Studies, before: float = float("inf")) -> int:
    """Return how many candidates are trained or running, among the trials before number `before`."""
    trials = (trial for trial in valid_trials(studies.candidates) if trial.number < before)
    return sum(RECORD not in trial.user_attrs or _is_claimed(trial) for trial in trials)
