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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from t2tbuild.nas.draw import Choice
from t2tbuild.nas.record import Record, State
from t2tbuild.nas.sampler import CandidateSampler
from t2tbuild.nas.scheduler import count_claimed
from t2tbuild.nas.store.database import close
from t2tbuild.nas.store.lock import search_lock
from t2tbuild.nas.store.process import current_process
from t2tbuild.nas.store.reader import StoreReader
from t2tbuild.nas.store.retry import retried
from t2tbuild.nas.store.trial_writer import TrialWriter
from t2tbuild.nas.store.trials import (
    PROCESS,
    RECORD,
    Claim,
    Exhausted,
    Kind,
    LostClaim,
    Trial,
    Values,
    identity_of,
    with_number,
)
from t2tbuild.spec.search import Search


class Store(StoreReader):
    """The trainings of one search in one database, which is closed at the end of a `with`."""

    def __init__(self, url: str, storage: RDBStorage, search: Search, studies: Mapping[Kind, optuna.Study]) -> None:
        super().__init__(url, storage, search, studies)
        self._writer = TrialWriter(storage)
        self._unanswered: tuple[str, int, bool] | None = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        close(self.storage)

    @retried
    def set_meta(self, key: str, value: Any) -> None:
        """Store a value that belongs to the whole search."""
        self._studies[Kind.CANDIDATE].set_user_attr(key, value)

    @retried
    def keep_meta(self, key: str, value: Any) -> Any:
        """Store a value unless another worker has stored one, and return the one that is stored."""
        with search_lock(self.url, self.storage.engine):
            if (stored := self.get_meta(key)) is None:
                self.set_meta(key, stored := value)
            return stored

    @retried
    def add_references(self, records: Iterable[Record]) -> None:
        """Queue reference runs in this order, without those that are there."""
        given = list(records)
        if not self._missing_references(given):  # a thousand workers that join do not wait for one another
            return
        with search_lock(self.url, self.storage.engine):
            for record in self._missing_references(given):
                self._add(Kind.REFERENCE, TrialState.WAITING, record)

    def _missing_references(self, records: Sequence[Record]) -> list[Record]:
        known = {identity_of(self._record(trial)) for trial in self._trials(Kind.REFERENCE)}
        return [record for record in records if identity_of(record) not in known]

    @retried
    def add_named(self, records: Iterable[tuple[Record, dict[str, Any]]], sampler: CandidateSampler) -> None:
        """Queue the candidates that the spec names, with their parameters, without those that are there."""
        known = {record.key for record in self.records()}
        for record, params in records:
            if record.key not in known:
                self._add(Kind.CANDIDATE, TrialState.WAITING, record, params, sampler.distributions)

    @retried
    def draw_candidate(
        self,
        sampler: CandidateSampler,
        worker: str,
        *,
        pool: int = 1,
        choose: Choice | None = None,
    ) -> Claim | None:
        """Draw a candidate and claim it. Raises Exhausted where the space has no new one.

        Returns None, without a draw, once as many candidates as the search asks for are trained, running or waiting.
        """
        self._trials(Kind.CANDIDATE)  # a worker that joins validates every record, which the lock does not wait for
        with search_lock(self.url, self.storage.engine):
            trials = self._trials(Kind.CANDIDATE)
            if (unanswered := self._unanswered_claim(Kind.CANDIDATE, trials)) is not None:
                return unanswered
            records = [self._record(trial) for trial in trials]
            if count_claimed(records) >= self.search.trials:
                return None
            ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
            finished = self._readers[Kind.CANDIDATE].with_params(ended)
            seen = {record.key for record in records}
            draw = sampler.draw(len(trials), finished, seen, pool=pool, choose=choose)
            if draw is None:
                raise Exhausted
            record = replace(draw.record(), worker=worker)
            self._unanswered = identity_of(record)
            trial_id, number = self._add(
                Kind.CANDIDATE, TrialState.RUNNING, record, draw.params, sampler.distributions, draw.system_attrs
            )
        return self._claimed(Kind.CANDIDATE, trial_id, with_number(record, number, self.search.name))

    def _add(
        self,
        kind: Kind,
        state: TrialState,
        record: Record,
        params: Mapping[str, Any] | None = None,
        distributions: Mapping[str, BaseDistribution] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
    ) -> tuple[int, int]:
        given = dict(params or {})
        process = {PROCESS: current_process()} if state is TrialState.RUNNING else {}
        trial = optuna.create_trial(
            state=state,
            params=given,
            distributions={name: one for name, one in (distributions or {}).items() if name in given},
            user_attrs={RECORD: record.to_json()} | process,
            system_attrs=dict(system_attrs or {}),
        )
        return self._writer.add(self._study_ids[kind], trial)

    @retried
    def claim(self, kind: Kind, worker: str) -> Claim | None:
        """Claim the first training that waits, None where none does.

        Trainings that were added twice are ended.
        """
        found, repeated = self._split(kind)
        for trial in repeated:
            self._writer.set_state(trial.trial_id, TrialState.FAIL)
        if (unanswered := self._unanswered_claim(kind, found)) is not None:
            return unanswered
        for trial in found:
            if trial.state is TrialState.WAITING:
                self._unanswered = identity_of(self._record(trial))
                stored = self._writer.claim(trial.trial_id, worker, current_process())
                if stored is not None:
                    record = with_number(Record.from_json(stored), trial.number, self.search.name)
                    return self._claimed(kind, trial.trial_id, record)
        self._unanswered = None  # every one went to another worker
        return None

    def _claimed(self, kind: Kind, trial_id: int, record: Record) -> Claim:
        self._unanswered = None
        return Claim(kind, trial_id, record)

    def _unanswered_claim(self, kind: Kind, trials: Sequence[Trial]) -> Claim | None:
        """Return the claim of an earlier try of this call whose answer was lost, None where there is none."""
        for trial in trials if self._unanswered is not None else ():
            if trial.state is TrialState.RUNNING and trial.attrs.get(PROCESS) == current_process():
                record = self._record(trial)
                if identity_of(record) == self._unanswered:
                    return self._claimed(kind, trial.trial_id, record)
        self._unanswered = None
        return None

    @retried
    def save(self, claim: Claim, record: Record) -> None:
        """Save the record of a running training. Raises LostClaim where another worker took it over."""
        self._require_claim(claim)
        self._writer.set_attr(claim.trial_id, RECORD, record.to_json())

    @retried
    def finish(self, claim: Claim, record: Record, values: Values) -> None:
        """Save the record of a finished training and end its trial. Raises LostClaim as `save` does."""
        state, attrs = self._writer.read(claim.trial_id)
        if state is not None and state.is_finished() and json.dumps(attrs[RECORD]) == json.dumps(record.to_json()):
            return  # the answer of an earlier call was lost
        self._require_claim(claim)
        constraints = optuna.create_trial(state=TrialState.RUNNING, constraints=dict(values.excess)).system_attrs
        for name, amount in constraints.items():
            self.storage.set_trial_system_attr(claim.trial_id, name, amount)
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
        state, attrs = self._writer.read(claim.trial_id)
        if state is not TrialState.RUNNING or attrs.get(PROCESS) != current_process():
            raise LostClaim
