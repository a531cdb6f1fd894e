"""Stale trainings: their worker is dead or silent, and another worker takes them over."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from optuna.storages import RDBStorage
from optuna.trial import TrialState

from t2tbuild.nas.record import Record, State
from t2tbuild.nas.store.lock import search_lock
from t2tbuild.nas.store.process import has_ended
from t2tbuild.nas.store.retry import retried
from t2tbuild.nas.store.trial_reader import TrialReader
from t2tbuild.nas.store.trial_writer import TrialWriter
from t2tbuild.nas.store.trials import DEATHS, PROCESS, RECORD, Kind
from t2tbuild.spec.search import Search


class StaleTrainings:
    """Finds the stale trainings of a search and queues them again."""

    def __init__(self, url: str, storage: RDBStorage, search: Search, readers: Mapping[Kind, TrialReader]) -> None:
        self.url, self.storage, self.search, self._readers = url, storage, search, readers
        self._suspects: dict[int, float] = {}
        self._checked = -math.inf
        self._writer = TrialWriter(storage)

    @retried
    def find(self) -> dict[int, bool]:
        """Return the running trials whose process has ended, or without a heartbeat for twice its interval.

        The value is true where the process is known to have ended.
        """
        found: dict[int, bool] = {}
        for reader in self._readers.values():
            running = [trial for trial in reader.read() if trial.state is TrialState.RUNNING]
            if not running:
                continue
            grace = 2 * (self.storage.heartbeat_interval or 0)
            silent = reader.find_silent(grace)
            for trial in running:
                dead = has_ended(trial.attrs.get(PROCESS))
                never_beat = trial.attrs.get(PROCESS) is None and _seconds_since(trial.started) > grace
                if dead or never_beat or trial.trial_id in silent:
                    found[trial.trial_id] = dead
        return found

    def requeue(self, *, at_once: bool = False) -> int:
        """Queue the trainings of dead workers again, and return how many.

        After an outage of the database every heartbeat is late. So, unless `at_once`, a training whose process may be
        alive must stay stale for one more heartbeat interval, in which the database was reached. After `search.retries`
        dead workers a training has failed.
        """
        found, now = self.find(), time.monotonic()
        if now - self._checked > self.search.heartbeat:
            self._suspects = {}
        self._checked = now
        self._suspects = {trial_id: self._suspects.get(trial_id, now) for trial_id in found}
        return sum(
            self._requeue(trial_id)
            for trial_id, has_died in found.items()
            if at_once or has_died or now - self._suspects[trial_id] >= self.search.heartbeat
        )

    @retried
    def _requeue(self, trial_id: int) -> bool:
        """Queue a trial again under the lock of the search. Returns False where another worker was faster."""
        with search_lock(self.url, self.storage.engine):
            if trial_id not in self.find():
                return False
            trial = self.storage.get_trial(trial_id)
            deaths = trial.user_attrs.get(DEATHS, 0) + 1
            self._writer.set_attr(trial_id, DEATHS, deaths)
            if RECORD not in trial.user_attrs:  # of an earlier version, killed while it was drawn
                self._writer.set_state(trial_id, TrialState.FAIL)
            elif deaths > self.search.retries:
                record = Record.from_json(trial.user_attrs[RECORD])
                record = replace(record, state=State.FAILED, reason=f"its worker died {deaths} times")
                self._writer.set_attr(trial_id, RECORD, record.to_json())
                self._writer.set_state(trial_id, TrialState.FAIL)
            else:
                self._writer.set_attr(trial_id, PROCESS, None)
                self._writer.set_state(trial_id, TrialState.WAITING)
            return True


def _seconds_since(moment: datetime | None) -> float:
    return math.inf if moment is None else (datetime.now() - moment).total_seconds()
