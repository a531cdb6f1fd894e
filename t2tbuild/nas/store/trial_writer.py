"""Single writes to a trial, each repeated on its own while the database is unreachable."""

from collections.abc import Sequence
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from t2tbuild.nas.store.database import retried
from t2tbuild.nas.store.trials import LostClaim


class TrialWriter:
    """Writes to the trials of a database."""

    def __init__(self, storage: RDBStorage) -> None:
        self.storage = storage

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

    @retried
    def beat(self, trial_id: int) -> None:
        """Record a heartbeat of a trial."""
        self.storage.record_heartbeat(trial_id)
