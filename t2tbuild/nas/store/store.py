"""The store of a search: trainings are added, claimed by a worker, saved at every rung, finished or released.

A search has two Optuna studies in one database: `candidates`, which a sampler draws, and `references`, which are
trained with several seeds and must not influence the sampler. The record of a training is an attribute of its trial. A
trial is COMPLETE when its training reached the last rung, PRUNED when it was stopped before or is over budget, and
FAIL when it failed.

Every method is called again while the database is unreachable, and may be: a training is added once, and what was saved
is not saved twice.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from t2tbuild.nas.record import BASE, Record, State
from t2tbuild.nas.sampler import CandidateSampler, Draw
from t2tbuild.nas.scheduler import count_claimed
from t2tbuild.nas.store.database import close, retried, search_lock
from t2tbuild.nas.store.process import current_process
from t2tbuild.nas.store.stale_trainings import StaleTrainings
from t2tbuild.nas.store.trial_writer import TrialWriter
from t2tbuild.nas.store.trials import (
    PROCESS,
    RECORD,
    Claim,
    Entry,
    Kind,
    LostClaim,
    Snapshot,
    Values,
    identity_of,
    read_record,
    split_repeated,
)
from t2tbuild.spec.search import Search


class Store:
    """The trainings of one search in one database, which is closed at the end of a `with`."""

    def __init__(self, url: str, storage: RDBStorage, search: Search, studies: Mapping[Kind, optuna.Study]) -> None:
        self.url, self.storage, self.search, self._studies = url, storage, search, studies
        self._parsed: dict[int, Record] = {}
        self.stale = StaleTrainings(url, storage, search, studies)
        self._writer = TrialWriter(storage)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        close(self.storage)

    @retried
    def snapshot(self) -> Snapshot:
        """Return the state of every training now."""
        trials = {kind: self._trials(kind) for kind in Kind}
        records = {kind: tuple(map(self._record, some)) for kind, some in trials.items()}
        runs = sorted(records[Kind.REFERENCE], key=lambda one: (one.number != BASE, one.seed, one.number))
        return Snapshot(
            records=records[Kind.CANDIDATE],
            reference_runs=tuple(runs),
            waiting={kind: sum(one.state is TrialState.WAITING for one in some) for kind, some in trials.items()},
            running=sum(one.state is TrialState.RUNNING for some in trials.values() for one in some),
        )

    def records(self) -> tuple[Record, ...]:
        """Return the records of the candidates, in the order of sampling."""
        return self.snapshot().records

    def reference_runs(self) -> tuple[Record, ...]:
        """Return the records of the reference runs by seed, the base's first."""
        return self.snapshot().reference_runs

    @retried
    def entries(self) -> list[Entry]:
        """Return every training with the state and times of its trial, the reference runs first."""
        stale = self.stale.find()
        return [
            Entry(
                kind=kind,
                record=self._record(trial),
                is_waiting=trial.state is TrialState.WAITING,
                is_stale=trial._trial_id in stale,
                started=trial.datetime_start,
                ended=trial.datetime_complete,
            )
            for kind in (Kind.REFERENCE, Kind.CANDIDATE)
            for trial in self._trials(kind)
        ]

    @retried
    def completed_params(self) -> list[tuple[Record, dict[str, Any], dict[str, BaseDistribution]]]:
        """Return each completed candidate with its parameters and their distributions in Optuna."""
        trials = self._trials(Kind.CANDIDATE)
        found = [(self._record(trial), trial.params, trial.distributions) for trial in trials]
        return [one for one in found if one[0].state is State.COMPLETED]

    @retried
    def set_meta(self, key: str, value: Any) -> None:
        """Store a value that belongs to the whole search."""
        self._studies[Kind.CANDIDATE].set_user_attr(key, value)

    @retried
    def get_meta(self, key: str) -> Any:
        """Return a stored value, None where there is none."""
        return self._studies[Kind.CANDIDATE].user_attrs.get(key)

    @retried
    def add_references(self, records: Iterable[Record]) -> None:
        """Queue reference runs in this order, without those that are there."""
        with search_lock(self.url, self.storage.engine):
            known = {identity_of(self._record(trial)) for trial in self._trials(Kind.REFERENCE)}
            for record in records:
                if identity_of(record) not in known:
                    self._add(Kind.REFERENCE, record)

    @retried
    def add_named(self, records: Iterable[tuple[Record, dict[str, Any]]], sampler: CandidateSampler) -> None:
        """Queue the candidates that the spec names, with their parameters, without those that are there."""
        known = {record.key for record in self.records()}
        for record, params in records:
            if record.key not in known:
                self._add(Kind.CANDIDATE, record, params, sampler.distributions)

    @retried
    def add_candidate(
        self, sampler: CandidateSampler, *, pool: int = 1, choose: Callable[[Sequence[Draw]], Draw] | None = None
    ) -> bool:
        """Draw a candidate and queue it. Returns False where the space has no new one.

        Nothing is drawn once as many candidates as the search asks for are trained, running or waiting.
        """
        with search_lock(self.url, self.storage.engine):
            trials = self._trials(Kind.CANDIDATE)
            records = [self._record(trial) for trial in trials]
            if count_claimed(records) >= self.search.trials:
                return True
            finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
            seen = {record.key for record in records}
            draw = sampler.draw(len(trials), finished, seen, pool=pool, choose=choose)
            if draw is None:
                return False
            self._add(Kind.CANDIDATE, draw.record(), draw.params, sampler.distributions, draw.system_attrs)
            return True

    def _add(
        self,
        kind: Kind,
        record: Record,
        params: Mapping[str, Any] | None = None,
        distributions: Mapping[str, BaseDistribution] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
    ) -> None:
        given = dict(params or {})
        trial = optuna.create_trial(
            state=TrialState.WAITING,
            params=given,
            distributions={name: one for name, one in (distributions or {}).items() if name in given},
            user_attrs={RECORD: record.to_json()},
            system_attrs=dict(system_attrs or {}),
        )
        self._studies[kind].add_trial(trial)

    @retried
    def claim(self, kind: Kind, worker: str) -> Claim | None:
        """Claim the first training that waits, None where none does.

        Trainings that were added twice are ended.
        """
        found, repeated = self._split(kind)
        for trial in repeated:
            self._writer.set_state(trial._trial_id, TrialState.FAIL)
        for trial in found:
            if trial.state is not TrialState.WAITING:
                continue
            trial_id = trial._trial_id
            self._writer.beat(trial_id)  # before the state, so that a running trial always has one
            if self._writer.set_state(trial_id, TrialState.RUNNING):
                record = replace(read_record(self.storage.get_trial(trial_id), self.search.name), worker=worker)
                self._writer.set_attr(trial_id, PROCESS, current_process())
                self._writer.set_attr(trial_id, RECORD, record.to_json())
                return Claim(kind, trial_id, record)
        return None

    @retried
    def save(self, claim: Claim, record: Record) -> None:
        """Save the record of a running training. Raises LostClaim where another worker took it over."""
        self._require_claim(claim)
        self._writer.set_attr(claim.trial_id, RECORD, record.to_json())

    @retried
    def finish(self, claim: Claim, record: Record, values: Values) -> None:
        """Save the record of a finished training and end its trial. Raises LostClaim as `save` does."""
        trial = self.storage.get_trial(claim.trial_id)
        if trial.state.is_finished() and json.dumps(trial.user_attrs[RECORD]) == json.dumps(record.to_json()):
            return  # the answer of an earlier call was lost
        self._require_claim(claim)
        for name, amount in values.excess.items() - trial.constraints.items():
            optuna.Trial(self._studies[claim.kind], claim.trial_id).set_constraint(name, amount)
        for steps, value in values.at_rungs.items():
            if math.isfinite(value):
                self.storage.set_trial_intermediate_value(claim.trial_id, steps, value)
        self._writer.set_attr(claim.trial_id, RECORD, record.to_json())
        self._end(claim.trial_id, record, values.objectives)

    @retried
    def release(self, claim: Claim) -> None:
        """Queue an interrupted training again. It continues from its last rung."""
        with contextlib.suppress(LostClaim):
            self._require_claim(claim)
            self._writer.set_attr(claim.trial_id, PROCESS, None)
            self._writer.set_state(claim.trial_id, TrialState.WAITING)

    def _end(self, trial_id: int, record: Record, objectives: Sequence[float] | None) -> None:
        state = TrialState.PRUNED if objectives is None else TrialState.COMPLETE
        if record.state is State.FAILED:
            state, objectives = TrialState.FAIL, None
        self._writer.set_state(trial_id, state, objectives)

    def _require_claim(self, claim: Claim) -> None:
        trial = self.storage.get_trial(claim.trial_id)
        if trial.state is not TrialState.RUNNING or trial.user_attrs.get(PROCESS) != current_process():
            raise LostClaim

    def _trials(self, kind: Kind) -> list[FrozenTrial]:
        """Return the trials of a kind, without those that an earlier version ended as FAIL to queue them again."""
        return self._split(kind)[0]

    def _split(self, kind: Kind) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        """Return the trials of a kind, and the waiting ones that repeat an earlier one."""
        return split_repeated(self._studies[kind].get_trials(deepcopy=False), self._record)

    def _record(self, trial: FrozenTrial) -> Record:
        """Return the record of a trial, cached for a finished trial."""
        if trial._trial_id in self._parsed:
            return self._parsed[trial._trial_id]
        record = read_record(trial, self.search.name)
        if trial.state.is_finished():
            self._parsed[trial._trial_id] = record
        return record
