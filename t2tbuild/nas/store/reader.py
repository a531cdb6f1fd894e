"""The reads of a store: the records of the trainings, and the state and times of their trials."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from t2tbuild.nas.record import BASE, Record
from t2tbuild.nas.store.database import damaged_values
from t2tbuild.nas.store.retry import retried
from t2tbuild.nas.store.stale_trainings import StaleTrainings
from t2tbuild.nas.store.trial_reader import TrialReader
from t2tbuild.nas.store.trials import RECORD, Entry, Kind, Snapshot, Trial, read_record, split_repeated
from t2tbuild.spec.search import Search


class StoreReader:
    """Reads the trainings of one search in one database."""

    def __init__(self, url: str, storage: RDBStorage, search: Search, studies: Mapping[Kind, optuna.Study]) -> None:
        self.url, self.storage, self.search, self._studies = url, storage, search, studies
        self._study_ids = {kind: storage.get_study_id_from_name(one.study_name) for kind, one in studies.items()}
        self._readers = {kind: TrialReader(storage, study_id) for kind, study_id in self._study_ids.items()}
        self._parsed: dict[int, tuple[Any, Record]] = {}
        self.stale = StaleTrainings(url, storage, search, self._readers)

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
                is_stale=trial.trial_id in stale,
                started=trial.started,
                ended=trial.ended,
            )
            for kind in (Kind.REFERENCE, Kind.CANDIDATE)
            for trial in self._trials(kind)
        ]

    @retried
    def completed_params(self) -> list[tuple[Record, dict[str, Any], dict[str, BaseDistribution]]]:
        """Return each completed candidate with its parameters and their distributions in Optuna."""
        trials = [trial for trial in self._trials(Kind.CANDIDATE) if trial.state is TrialState.COMPLETE]
        complete = self._readers[Kind.CANDIDATE].with_params(trials)
        return [
            (self._record(trial), found.params, found.distributions)
            for trial, found in zip(trials, complete, strict=True)
        ]

    @retried
    @damaged_values()
    def get_meta(self, key: str) -> Any:
        """Return a stored value, None where there is none."""
        return self._studies[Kind.CANDIDATE].user_attrs.get(key)

    @retried
    @damaged_values()
    def all_meta(self) -> Mapping[str, Any]:
        """Return every stored value by its key."""
        return self._studies[Kind.CANDIDATE].user_attrs

    def _trials(self, kind: Kind) -> list[Trial]:
        """Return the trials of a kind, without those that an earlier version ended as FAIL to queue them again."""
        return self._split(kind)[0]

    def _split(self, kind: Kind) -> tuple[list[Trial], list[Trial]]:
        """Return the trials of a kind, and the waiting ones that repeat an earlier one."""
        return split_repeated(self._readers[kind].read(), self._record)

    def _record(self, trial: Trial) -> Record:
        """Return the record of a trial. It is validated, which takes a millisecond, only where it has changed."""
        stored = trial.attrs.get(RECORD)
        before, record = self._parsed.get(trial.trial_id, (None, None))
        if record is None or before != stored:
            record = read_record(trial, self.search.name)
            self._parsed[trial.trial_id] = stored, record
        return record
