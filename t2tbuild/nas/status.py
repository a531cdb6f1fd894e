"""How far a search is, and what a crash left of it."""

import sqlite3
import statistics
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from t2tbuild import manifest
from t2tbuild.errors import InputError
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Record, State, best_of
from t2tbuild.nas.reference_runs import base_seeds, confirmations
from t2tbuild.nas.storage import RECORD, retry_stale
from t2tbuild.nas.storage_url import DATABASE
from t2tbuild.nas.store import Studies
from t2tbuild.spec.root import SearchSpec
from t2tbuild.training.checkpoint import FILES


@dataclass(frozen=True)
class Status:
    """A search as it stands: records of candidates and references, and who works on what."""

    spec: SearchSpec
    records: tuple[Record, ...]
    repeats: tuple[Record, ...]
    to_confirm: int
    last: datetime | None
    waiting: frozenset[tuple[str, int]]
    """Number and seed of trainings that wait for a worker."""
    silent: frozenset[tuple[str, int]]
    """Those whose worker has not been heard of for too long."""

    def lines(self) -> list[str]:
        """In words."""
        search = self.spec.search
        tally = Counter(str(record.state) for record in self.records)
        trained = sum(record.state.trained for record in self.records)
        states = ", ".join(f"{count} {state}" for state, count in sorted(tally.items())) or "none asked for yet"
        message = [f"{search.name}: {trained} of {search.trials} candidates trained ({states})"]
        base = [record for record in self.repeats if record.number == BASE and record.state is State.TOP]
        again = sum(record.number != BASE and record.state is State.TOP for record in self.repeats)
        message.append(
            f"base: {len(base)} of {base_seeds(search)} seeds; confirmations: {again} of {again + self.to_confirm}"
        )
        for record in (*self.repeats, *self.records):
            if record.state is State.CLIMBING or (record.number, record.seed) in self.waiting:
                name = f"{record.number} seed {record.seed}" if record.seed else record.number
                state, worker = "under way", f"by {record.worker or 'nobody yet'}"
                if (record.number, record.seed) in self.waiting:
                    state, worker = "waiting", "for a worker"
                elif (record.number, record.seed) in self.silent:
                    worker += ", which is silent: the next worker takes it over"
                message.append(f"{state}: {name}, after {record.steps} steps, {worker}")
        best = best_of(self.records, Ranking(search, self.records).value)
        if best is not None:
            rung = best.rungs[-1]
            message.append(f"best so far: candidate {best.number}, loss {rung.loss:.3f}, accuracy {rung.accuracy:.1%}")
        if base:
            losses = [record.rungs[-1].loss for record in base]
            message.append(f"base: loss {statistics.fmean(losses):.3f}")
        if self.last is not None:
            message.append(f"last end of a training: {self.last:%Y-%m-%d %H:%M:%S}")
        return message

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.spec.search.name,
            "trials": self.spec.search.trials,
            "states": dict(Counter(str(record.state) for record in self.records)),
            "references": dict(Counter(str(record.state) for record in self.repeats)),
            "to_confirm": self.to_confirm,
            "under_way": [
                {"candidate": record.number, "seed": record.seed, "steps": record.steps, "worker": record.worker}
                for record in (*self.repeats, *self.records)
                if record.state is State.CLIMBING
            ],
            "last": self.last.isoformat() if self.last else None,
        }


def look_at(spec: SearchSpec, studies: Studies) -> Status:
    """A search as it stands."""
    records, repeats = studies.records(), studies.repeats()
    trials = [*studies.candidates.get_trials(deepcopy=False), *studies.references.get_trials(deepcopy=False)]
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete is not None]
    missing = len(confirmations(spec.search, records, repeats))
    missing += sum(record.number != BASE and record.state is State.CLIMBING for record in repeats)
    waiting, silent = (
        frozenset((one["number"], one["seed"]) for trial in some if (one := trial.user_attrs.get(RECORD)))
        for some in ([trial for trial in trials if trial.state is TrialState.WAITING], _silent(studies))
    )
    return Status(spec, tuple(records), tuple(repeats), missing, max(ends, default=None), waiting, silent)


def _silent(studies: Studies) -> list[FrozenTrial]:
    """The trials that run by the storage, whose workers have not been heard of for too long."""
    stale = {
        number
        for study in (studies.candidates, studies.references)
        for number in studies.storage._get_stale_trial_ids(study._study_id)
    }
    return [studies.storage.get_trial(number) for number in stale]


def repair(run: Path, studies: Studies) -> list[str]:
    """Put right what a crash left, and tell what was done. Raises InputError when the database itself is broken."""
    message = []
    database = run / DATABASE
    if database.exists():
        with sqlite3.connect(database) as connection:
            (wrong,) = connection.execute("pragma integrity_check").fetchone()
        if wrong != "ok":
            raise InputError(f"{database}: broken: {wrong}; candidates.csv and report.json hold what was last written")
    for study in (studies.candidates, studies.references):
        before = len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        retry_stale(study)
        after = len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        if after < before:
            message.append(
                f"{study.study_name}: asked for again, since their workers are gone: {before - after} trainings"
            )
        if after:
            message.append(
                f"{study.study_name}: under way, or given up a moment ago: {after} trainings; look again later"
            )
    trials = run / "trials"
    for folder in sorted(trials.iterdir()) if trials.is_dir() else ():
        for child in manifest.children(folder):
            wrong = manifest.verify(child, FILES)
            message += [f"{child}: {wrong}; the rung below it is used, or the training starts anew"] if wrong else []
    return message
