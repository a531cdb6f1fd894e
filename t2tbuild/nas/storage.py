"""The storage of a study: Optuna's RDBStorage on SQLite or a shared database, with retries while it is unreachable."""

import contextlib
import fcntl
import math
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import tenacity
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from t2tbuild.errors import InputError
from t2tbuild.files import redact
from t2tbuild.spec.search import Search

RETRY_SECONDS = 120.0
"""A worker gives up when the database was unreachable for this many seconds."""
RECORD = "record"
"""The user attribute of a trial that holds its record."""
LOCK_ID = 20210128
"""The advisory lock under which studies are created on a server."""


def _is_unreachable(error: BaseException) -> bool:
    """Whether the database cannot be reached or is locked, as opposed to an invalid statement."""
    cause: BaseException | None = error if isinstance(error, StorageInternalError | SQLAlchemyError) else None
    while cause is not None:
        if isinstance(cause, DBAPIError):
            return not isinstance(cause, IntegrityError | ProgrammingError)
        cause = cause.__cause__ or cause.__context__
    return False


_retried = tenacity.retry(
    retry=tenacity.retry_if_exception(_is_unreachable),
    wait=tenacity.wait_exponential(multiplier=0.05, max=2.0),
    stop=lambda state: (state.seconds_since_start or 0.0) > RETRY_SECONDS,
    reraise=True,
)
"""Retry a method of the storage, with growing pauses, while the database is unreachable."""


class _RetryOrFail:
    """Queue the trial of a dead worker again; after `max_retries` record it as failed, with Optuna's state PRUNED."""

    def __init__(self, max_retries: int) -> None:
        self.max_retries = max_retries

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        deaths = len(trial.system_attrs.get("retry_history", [])) + 1
        if deaths <= self.max_retries:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                RetryHeartbeatStaleTrialCallback()(study, trial)
        elif RECORD in trial.user_attrs:
            failure = {"state": "failed", "reason": f"its worker died {deaths} times"}
            record = {RECORD: trial.user_attrs[RECORD] | failure}
            state, values = TrialState.PRUNED, trial.intermediate_values
            study.add_trial(
                optuna.create_trial(
                    state=state,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs=record,
                    intermediate_values=values,
                )
            )


class RetryingStorage(RDBStorage):
    """Optuna's RDBStorage with every operation retried while the database is unreachable.

    A trial has a heartbeat from its creation on, so a trial whose worker is killed at once becomes stale as well.
    """

    def __init__(self, url: str, *, heartbeat: float, retries: int) -> None:
        arguments = {"timeout": 60} if url.startswith("sqlite") else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(
                url,
                engine_kwargs={"pool_pre_ping": True, "connect_args": arguments},
                heartbeat_interval=max(1, math.ceil(heartbeat)),
                heartbeat_stale_trial_callback=_RetryOrFail(retries),
            )

    def close(self) -> None:
        """Close every connection."""
        self.remove_session()
        self.engine.dispose()

    @_retried
    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        if template_trial is None or template_trial.state is TrialState.RUNNING:
            self.record_heartbeat(trial_id)
        return trial_id

    @_retried
    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        if changed and state is TrialState.RUNNING:
            self.record_heartbeat(trial_id)
        return changed

    @_retried
    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        stale = super()._get_stale_trial_ids(study_id)
        grace = 2 * (self.heartbeat_interval or 0)
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        with self.scoped_session() as session:
            beating = set(session.scalars(sqlalchemy.text("SELECT trial_id FROM trial_heartbeats")))
        for trial in running:
            started = trial.datetime_start
            silent = started is None or time.time() - started.timestamp() > grace
            if trial._trial_id not in beating and silent:  # killed between two statements
                stale.append(trial._trial_id)
        return stale


for _name in (
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "set_trial_param",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial",
    "get_all_trials",
    "_get_trials",
    "get_best_trial",
    "get_trial_id_from_study_id_trial_number",
    "get_n_trials",
    "record_heartbeat",
):
    setattr(RetryingStorage, _name, _retried(getattr(RetryingStorage, _name)))


@contextlib.contextmanager
def creation_lock(url: str) -> Iterator[None]:
    """Hold the lock under which the tables and studies of a database are created, so that they are created once."""
    address = sqlalchemy.make_url(url)
    if address.get_backend_name() == "sqlite":
        with Path(f"{address.database}.lock").open("w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            yield
        return
    take, leave = {
        "postgresql": ("SELECT pg_advisory_lock(:lock)", "SELECT pg_advisory_unlock(:lock)"),
        "mysql": ("SELECT GET_LOCK(:lock, 60)", "SELECT RELEASE_LOCK(:lock)"),
    }[address.get_backend_name()]
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(take), {"lock": LOCK_ID})
            try:
                yield
            finally:
                connection.execute(sqlalchemy.text(leave), {"lock": LOCK_ID})
    finally:
        engine.dispose()


def open_storage(url: str, search: Search) -> RetryingStorage:
    """Open the storage at a URL and create missing tables. Raises InputError when it cannot be reached or opened."""
    shown_url = redact(url)
    try:
        with creation_lock(url):
            return RetryingStorage(url, heartbeat=search.heartbeat, retries=search.retries)
    except ModuleNotFoundError as error:
        backend = sqlalchemy.make_url(url).get_backend_name()
        raise InputError(f"{shown_url}: {error.name} is not installed; pip install 't2tbuild[{backend}]'") from None
    except (SQLAlchemyError, OSError, RuntimeError, ValueError) as error:
        lines = redact(str(getattr(error, "orig", error))).strip().splitlines()
        reason = re.sub(r"[^\s'\"]*@", "", lines[0]) if lines else type(error).__name__  # a password may contain an @
        if isinstance(error, FileNotFoundError):
            reason = "its folder does not exist"
        elif "not a database" in reason or "malformed" in reason:
            reason += "; move it away to start a new search: candidates.csv and report.json have the last results"
        raise InputError(f"the storage {shown_url} cannot be opened: {reason}") from None


def retry_stale(study: optuna.Study) -> None:
    """Queue the stale trials of dead workers again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
