"""Reads of the trials of a study: one statement for those that have not ended, and each that has ended once.

Optuna's RDBStorage reads every unfinished trial with its parameters again and takes two milliseconds for each, so that
a thousand running ones hold the lock of a search for two seconds at each draw. A test compares what is read here with
what RDBStorage reads.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Row, func, select

from t2tbuild.nas.store.database import damaged_values
from t2tbuild.nas.store.tables import HEARTBEATS, TRIALS, USER_ATTRS
from t2tbuild.nas.store.trials import Trial

CHUNK = 500
"""Trials of one IN list; SQLite allows 999 variables in a statement of its older versions."""
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


class TrialReader:
    """Reads the trials of one study. What has ended does not change any more, and is kept."""

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self.study_id, self._storage = study_id, storage
        self._ended: dict[int, Trial] = {}
        self._unfinished: dict[int, tuple[tuple[Any, ...], Trial]] = {}
        self._complete: dict[int, FrozenTrial] = {}

    @damaged_values()
    def read(self) -> list[Trial]:
        """Return all trials by their numbers. One that has not changed is the same object as before."""
        with self._storage.engine.connect() as connection:
            rows = self._read_rows(connection)
            ended = [trial_id for trial_id, found in rows.items() if found[0].state not in UNFINISHED]
            self._read_ended(connection, [one for one in ended if one not in self._ended], rows)
        unfinished = {one: self._parse(found) for one, found in rows.items() if one not in self._ended}
        self._unfinished = unfinished
        trials = [unfinished[one][1] if one in unfinished else self._ended[one] for one in rows]
        return sorted(trials, key=lambda trial: trial.number)

    def _read_rows(self, connection: Connection) -> dict[int, list[Row[Any]]]:
        """Return the rows of each trial: of an unfinished one with its attributes, so that both are of one time."""
        own = (TRIALS.c.trial_id == USER_ATTRS.c.trial_id) & TRIALS.c.state.in_(UNFINISHED)
        columns = (*TRIALS.c, USER_ATTRS.c.key, USER_ATTRS.c.value_json)
        statement = select(*columns).select_from(TRIALS.outerjoin(USER_ATTRS, own))
        rows: dict[int, list[Row[Any]]] = {}
        for row in connection.execute(statement.where(TRIALS.c.study_id == self.study_id)):
            rows.setdefault(row.trial_id, []).append(row)
        return rows

    def _read_ended(self, connection: Connection, trial_ids: Sequence[int], rows: dict[int, list[Row[Any]]]) -> None:
        """Read the attributes of trials that have ended."""
        for start in range(0, len(trial_ids), CHUNK):
            chunk = trial_ids[start : start + CHUNK]
            attrs: dict[int, dict[str, Any]] = {trial_id: {} for trial_id in chunk}
            for trial_id, key, value in connection.execute(
                select(*USER_ATTRS.c).where(USER_ATTRS.c.trial_id.in_(chunk))
            ):
                attrs[trial_id][key] = json.loads(value)
            self._ended |= {one: _trial(rows[one][0], attrs[one]) for one in chunk}

    def _parse(self, rows: Sequence[Row[Any]]) -> tuple[tuple[Any, ...], Trial]:
        content = tuple(map(tuple, sorted(rows, key=lambda row: row.key or "")))
        before = self._unfinished.get(rows[0].trial_id)
        if before is not None and before[0] == content:
            return before
        return content, _trial(rows[0], {row.key: json.loads(row.value_json) for row in rows if row.key is not None})

    def find_silent(self, seconds: float) -> set[int]:
        """Return the running trials whose last heartbeat is older, by the clock of the database."""
        beats = TRIALS.join(HEARTBEATS, TRIALS.c.trial_id == HEARTBEATS.c.trial_id)
        own = (TRIALS.c.study_id == self.study_id) & (TRIALS.c.state == TrialState.RUNNING)
        columns = (TRIALS.c.trial_id, HEARTBEATS.c.heartbeat, func.now())
        with self._storage.engine.connect() as connection:
            rows = connection.execute(select(*columns).select_from(beats).where(own)).all()
        return {one for one, beat, now in rows if (now.replace(tzinfo=None) - beat).total_seconds() > seconds}

    def with_params(self, trials: Sequence[Trial]) -> Iterator[FrozenTrial]:
        """Yield ended trials as RDBStorage reads them, with parameters and values. None is read before the first."""
        with damaged_values():
            if sum(trial.trial_id not in self._complete for trial in trials) > len(self._complete):
                states = {trial.state for trial in trials}  # a worker that joins reads all in a few statements
                found = self._storage.get_all_trials(self.study_id, deepcopy=False, states=states)
                self._complete |= {trial._trial_id: trial for trial in found}
            for trial in trials:
                if trial.trial_id not in self._complete:
                    self._complete[trial.trial_id] = self._storage.get_trial(trial.trial_id)
                yield self._complete[trial.trial_id]


def _trial(row: Row[Any], attrs: dict[str, Any]) -> Trial:
    return Trial(row.trial_id, row.number, row.state, _local(row.datetime_start), _local(row.datetime_complete), attrs)


def _local(moment: datetime | None) -> datetime | None:
    """Convert UTC to the local time that Optuna gives, both without a time zone."""
    return moment and moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
