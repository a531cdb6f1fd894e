"""Writes to the trials of a database, in few statements.

Optuna's RDBStorage takes three statements for each parameter of a trial and a transaction for each attribute. Here a
trial is added, or claimed, in one transaction on Optuna's tables, which RDBStorage creates, checks and reads. Where it
is claimed, it has its heartbeat in the same transaction. A test compares the rows with those of RDBStorage.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Table, func, select

from t2tbuild.nas.store.database import damaged_values
from t2tbuild.nas.store.retry import retried
from t2tbuild.nas.store.tables import HEARTBEATS, PARAMS, STUDIES, SYSTEM_ATTRS, TRIALS, USER_ATTRS
from t2tbuild.nas.store.trials import PROCESS, RECORD, LostClaim


class TrialWriter:
    """Writes to the trials of a database.

    `add` and `claim` are not retried here: the store first searches for one whose answer was lost.
    """

    def __init__(self, storage: RDBStorage) -> None:
        self.storage = storage

    def add(self, study_id: int, trial: FrozenTrial) -> tuple[int, int]:
        """Add a trial that waits or runs, and return its id and number. Its parameters are not checked."""
        with self.storage.engine.begin() as connection:
            if connection.dialect.name != "sqlite":  # which locks the whole file
                connection.execute(select(STUDIES).where(STUDIES.c.study_id == study_id).with_for_update())
            start = trial.datetime_start and trial.datetime_start.astimezone(UTC).replace(tzinfo=None)
            row = {"study_id": study_id, "state": trial.state, "datetime_start": start}
            (trial_id,) = connection.execute(TRIALS.insert().values(row)).inserted_primary_key or (0,)
            earlier = (TRIALS.c.study_id == study_id) & (TRIALS.c.trial_id < trial_id)
            number = connection.execute(select(func.count(TRIALS.c.trial_id)).where(earlier)).scalar_one()
            connection.execute(TRIALS.update().where(TRIALS.c.trial_id == trial_id).values(number=number))
            _insert(connection, PARAMS, trial_id, _param_rows(trial))
            _insert(connection, USER_ATTRS, trial_id, _attr_rows(trial.user_attrs))
            _insert(connection, SYSTEM_ATTRS, trial_id, _attr_rows(trial.system_attrs))
            if trial.state is TrialState.RUNNING:
                _beat(connection, trial_id)
            return trial_id, number

    def claim(self, trial_id: int, worker: str, process: Any) -> dict[str, Any] | None:
        """Claim a trial that waits, and return its record; None where another worker was faster."""
        with self.storage.engine.begin() as connection:
            waits = (TRIALS.c.trial_id == trial_id) & (TRIALS.c.state == TrialState.WAITING)
            now = datetime.now(UTC).replace(tzinfo=None)
            values = {"state": TrialState.RUNNING, "datetime_start": now}
            if not connection.execute(TRIALS.update().where(waits).values(values)).rowcount:
                return None
            own = USER_ATTRS.c.trial_id == trial_id
            stored = select(USER_ATTRS.c.value_json).where(own, USER_ATTRS.c.key == RECORD)
            record: dict[str, Any] = json.loads(connection.execute(stored).scalar_one()) | {"worker": worker}
            connection.execute(USER_ATTRS.delete().where(own, USER_ATTRS.c.key.in_((RECORD, PROCESS))))
            _insert(connection, USER_ATTRS, trial_id, _attr_rows({RECORD: record, PROCESS: process}))
            connection.execute(HEARTBEATS.delete().where(HEARTBEATS.c.trial_id == trial_id))
            _beat(connection, trial_id)
            return record

    @retried
    @damaged_values()
    def read(self, trial_id: int) -> tuple[TrialState | None, dict[str, Any]]:
        """Return the state and the user attributes of a trial; the state is None where it has no attribute."""
        joined = TRIALS.join(USER_ATTRS, TRIALS.c.trial_id == USER_ATTRS.c.trial_id)
        columns = (TRIALS.c.state, USER_ATTRS.c.key, USER_ATTRS.c.value_json)
        with self.storage.engine.connect() as connection:
            rows = connection.execute(select(*columns).select_from(joined).where(TRIALS.c.trial_id == trial_id)).all()
        return (rows[0][0] if rows else None), {key: json.loads(value) for _, key, value in rows}

    @retried
    def set_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial. Raises LostClaim where it has ended."""
        try:
            self.storage.set_trial_user_attr(trial_id, key, value)
        except UpdateFinishedTrialError:
            raise LostClaim from None

    @retried
    def set_state(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state of a trial. Returns False where another worker was faster."""
        try:
            return self.storage.set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            return False


def _insert(connection: Connection, table: Table, trial_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(table.insert(), [{"trial_id": trial_id, **row} for row in rows])


def _beat(connection: Connection, trial_id: int) -> None:
    connection.execute(HEARTBEATS.insert().values(trial_id=trial_id, heartbeat=func.now()))


def _param_rows(trial: FrozenTrial) -> list[dict[str, Any]]:
    rows = []
    for name, value in trial.params.items():
        kind = trial.distributions[name]
        row = {"param_name": name, "param_value": kind.to_internal_repr(value)}
        rows.append(row | {"distribution_json": distribution_to_json(kind)})
    return rows


def _attr_rows(attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]
