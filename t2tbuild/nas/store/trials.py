"""What the store holds of a training: its kind, record, state and times, and what Optuna learns of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from t2tbuild.errors import InputError
from t2tbuild.nas.record import Record, State, UnknownKey

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
class Trial:
    """A trial of an Optuna study: its id in the database, number, state and times, and what t2tbuild stores of it."""

    trial_id: int
    number: int
    state: TrialState
    started: datetime | None
    ended: datetime | None
    attrs: Mapping[str, Any]


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


class Exhausted(Exception):  # noqa: N818  # the end of a search, not an error
    """The space has no new candidate."""


def counts(trial: Trial) -> bool:
    """Whether a trial is a training, and not one that an earlier version ended as FAIL to queue it again."""
    if RECORD not in trial.attrs:
        return False
    return trial.state is not TrialState.FAIL or State(trial.attrs[RECORD]["state"]) is State.FAILED


def read_record(trial: Trial, search_name: str) -> Record:
    """Return the record of a trial. Raises InputError where it is damaged, or of a newer version."""
    try:
        return with_number(Record.from_json(trial.attrs[RECORD]), trial.number, search_name)
    except UnknownKey as error:
        message = f"the record of trial {trial.number} has the key {str(error)!r:.80}, which this version does not know"
        raise InputError(f"{message}; use the newer t2tbuild that wrote it, or choose another search.name") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        message = f"the record of trial {trial.number} in the storage is damaged ({reason:.200})"
        raise InputError(f"{message}; restore the storage from a copy, or choose another search.name") from None


def with_number(record: Record, number: int, search_name: str) -> Record:
    """Return a record with the number of its trial; a record that has a number is unchanged."""
    if record.number:
        return record
    model = record.model and record.model.model_copy(update={"name": f"{search_name[:56]}_{number:04}"})
    return replace(record, number=str(number), model=model)


def split_repeated(trials: Sequence[Trial], read: Callable[[Trial], Record]) -> tuple[list[Trial], list[Trial]]:
    """Return the trials that count, and the waiting ones that repeat an earlier one.

    Earlier versions repeated a statement whose answer was lost, so a training may have been added twice.
    """
    found: list[Trial] = []
    repeated: list[Trial] = []
    seen: set[tuple[str, int, bool]] = set()
    for trial in filter(counts, trials):
        identity = identity_of(read(trial))
        is_repeated = trial.state is TrialState.WAITING and identity in seen
        (repeated if is_repeated else found).append(trial)
        seen.add(identity)
    return found, repeated


def identity_of(record: Record) -> tuple[str, int, bool]:
    """Return what a training is a function of: the key of the model, the seed, and whether it has full width."""
    return record.key, record.seed, record.full


def completed_trial(
    number: int, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], value: float
) -> FrozenTrial:
    """Return a completed trial that is in no database, for a sampler to learn from."""
    trial = create_trial(params=dict(params), distributions={name: distributions[name] for name in params}, value=value)
    trial.number = number
    return trial
