"""Where a study lies: Optuna's relational storage, SQLite in the run directory, or a database that machines share."""

import contextlib
import fcntl
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from t2tbuild.errors import InputError
from t2tbuild.files import redact
from t2tbuild.spec.search import Search

PATIENCE = 120.0
"""Seconds that a database may be gone before a worker gives up."""
RECORD = "record"
"""The user attribute of a trial that holds what is known of its candidate."""
LOCK = 20210128
"""Number of the lock under which studies are created on a server."""

P = ParamSpec("P")
T = TypeVar("T")


def _patient(method: Callable[P, T]) -> Callable[P, T]:
    """Try again, less and less often, for as long as the database may be gone."""

    @wraps(method)
    def trying(*args: P.args, **kwargs: P.kwargs) -> T:
        deadline, pause = time.monotonic() + PATIENCE, 0.05
        while True:
            try:
                return method(*args, **kwargs)
            except (StorageInternalError, SQLAlchemyError) as error:
                if not _is_gone(error) or time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    return trying


def _is_gone(error: BaseException | None) -> bool:
    """Whether an error says that the database cannot be reached or is locked, not that it was asked for nonsense."""
    while error is not None:
        if isinstance(error, DBAPIError):
            return not isinstance(error, IntegrityError | ProgrammingError)
        error = error.__cause__ or error.__context__
    return False


class _Retry:
    """A training whose worker died is asked for again; one that killed too many ends as failed, told PRUNED."""

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        deaths = len(trial.system_attrs.get("retry_history", [])) + 1
        if deaths <= self.most:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                RetryHeartbeatStaleTrialCallback()(study, trial)
        elif RECORD in trial.user_attrs:
            message = {"state": "failed", "reason": f"its worker died {deaths} times"}
            record = {RECORD: trial.user_attrs[RECORD] | message}
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
    """Optuna's storage, whose every operation outlives a database that is gone for a while.

    A trial has a heartbeat from its first instant: one whose worker is killed before it begins is found dead like any
    other.
    """

    def __init__(self, url: str, *, heartbeat: float, retries: int) -> None:
        arguments = {"timeout": 60} if url.startswith("sqlite") else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(
                url,
                engine_kwargs={"pool_pre_ping": True, "connect_args": arguments},
                heartbeat_interval=max(1, math.ceil(heartbeat)),
                heartbeat_stale_trial_callback=_Retry(retries),
            )

    def close(self) -> None:
        """Let go of every connection."""
        self.remove_session()
        self.engine.dispose()

    @_patient
    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        if template_trial is None or template_trial.state is TrialState.RUNNING:
            self.record_heartbeat(trial_id)
        return trial_id

    @_patient
    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        if changed and state is TrialState.RUNNING:
            self.record_heartbeat(trial_id)
        return changed

    @_patient
    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        stale = super()._get_stale_trial_ids(study_id)
        grace = 2 * (self.heartbeat_interval or 0)
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        with self.scoped_session() as session:
            beating = {row[0] for row in session.query(models.TrialHeartbeatModel.trial_id)}
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
    setattr(RetryingStorage, _name, _patient(getattr(RetryingStorage, _name)))


@contextlib.contextmanager
def creating(url: str) -> Iterator[None]:
    """Hold the lock under which tables and studies of a database are made: who comes second finds them there."""
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
            connection.execute(sqlalchemy.text(take), {"lock": LOCK})
            try:
                yield
            finally:
                connection.execute(sqlalchemy.text(leave), {"lock": LOCK})
    finally:
        engine.dispose()


def connect(url: str, search: Search) -> RetryingStorage:
    """The storage at a URL, its tables made if need be. Raises InputError when it cannot be reached or opened."""
    message = redact(url)
    try:
        with creating(url):
            return RetryingStorage(url, heartbeat=search.heartbeat, retries=search.retries)
    except ModuleNotFoundError as error:
        backend = sqlalchemy.make_url(url).get_backend_name()
        raise InputError(f"{message}: {error.name} is not installed; pip install 't2tbuild[{backend}]'") from None
    except (SQLAlchemyError, OSError, RuntimeError, ValueError) as error:
        lines = redact(str(getattr(error, "orig", error))).strip().splitlines()
        reason = re.sub(r"[^\s'\"]*@", "", lines[0]) if lines else type(error).__name__  # a password that holds an @
        if isinstance(error, FileNotFoundError):
            reason = "its folder is not there"
        elif "not a database" in reason or "malformed" in reason:
            reason += "; move it away to start anew: candidates.csv and report.json hold what was last written"
        raise InputError(f"the storage {message} cannot be opened: {reason}") from None


def retry_stale(study: optuna.Study) -> None:
    """Let the trainings of dead workers be asked for again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
