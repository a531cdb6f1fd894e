"""What the store holds of a training: its kind, record, state and times, and what Optuna learns of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from optuna.trial import FrozenTrial, TrialState

from t2tbuild.nas.record import Record, State

RECORD = "record"
"""The user attribute of a trial that holds its record."""
PROCESS = "process"
"""The user attribute of a trial that identifies the process of its worker."""
DEATHS = "deaths"
"""The user attribute of a trial that counts its workers that died."""


class Kind(StrEnum):
    """The kind of a training."""

    CANDIDATE = "candidate"
    REFERENCE = "reference"


@dataclass(frozen=True)
class Claim:
    """A training that this worker has claimed."""

    kind: Kind
    trial_id: int
    record: Record


@dataclass(frozen=True)
class Snapshot:
    """The state of a search: the records of candidates and reference runs, how many wait, and how many are running."""

    records: tuple[Record, ...]
    reference_runs: tuple[Record, ...]
    waiting: Mapping[Kind, int]
    running: int


@dataclass(frozen=True)
class Entry:
    """A training in the store: its record, the state of its trial, and when it started and ended.

    A stale training is running, but its worker is dead or silent.
    """

    kind: Kind
    record: Record
    is_waiting: bool
    is_stale: bool
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True)
class Values:
    """What Optuna learns of a finished training.

    `objectives` are None where it has none. `at_rungs` are the values at each rung, `excess` is the amount over each
    limit of the budget.
    """

    objectives: Sequence[float] | None = None
    at_rungs: Mapping[int, float] = field(default_factory=dict)
    excess: Mapping[str, float] = field(default_factory=dict)


class LostClaim(Exception):  # noqa: N818  # not an error of this worker
    """The heartbeat of this worker was missing for so long that another worker took over its training."""


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is a training, and not one that an earlier version ended as FAIL to queue it again."""
    if RECORD not in trial.user_attrs:
        return False
    return trial.state is not TrialState.FAIL or State(trial.user_attrs[RECORD]["state"]) is State.FAILED
