"""The status of a search, and its repair after a crash."""

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
from t2tbuild.nas.reference_runs import count_base_seeds, plan_confirmations
from t2tbuild.nas.storage import RECORD, retry_stale
from t2tbuild.nas.storage_url import DATABASE
from t2tbuild.nas.store import Studies
from t2tbuild.spec.root import SearchSpec
from t2tbuild.training.checkpoint import FILES


@dataclass(frozen=True)
class Status:
    """The current state of a search: the records of candidates and reference runs, and who trains them."""

    spec: SearchSpec
    records: tuple[Record, ...]
    reference_runs: tuple[Record, ...]
    to_confirm: int
    last: datetime | None
    """When the last training ended."""
    waiting: frozenset[tuple[str, int]]
    """Number and seed of trainings that wait for a worker."""
    stale: frozenset[tuple[str, int]]
    """Number and seed of trainings whose worker has sent no heartbeat for too long."""

    def lines(self) -> list[str]:
        """Return the status as lines of text."""
        search = self.spec.search
        tally = Counter(str(record.state) for record in self.records)
        trained = sum(record.state.trained for record in self.records)
        states = ", ".join(f"{count} {state}" for state, count in sorted(tally.items())) or "none sampled yet"
        lines = [f"{search.name}: {trained} of {search.trials} candidates trained ({states})"]
        base = [record for record in self.reference_runs if record.number == BASE and record.state is State.COMPLETED]
        confirmed = sum(record.number != BASE and record.state is State.COMPLETED for record in self.reference_runs)
        lines.append(
            f"base: {len(base)} of {count_base_seeds(search)} seeds; "
            f"confirmation runs: {confirmed} of {confirmed + self.to_confirm}"
        )
        for record in (*self.reference_runs, *self.records):
            if record.state is State.RUNNING or (record.number, record.seed) in self.waiting:
                name = f"{record.number} seed {record.seed}" if record.seed else record.number
                state, worker = "running", f"by {record.worker or 'no worker yet'}"
                if (record.number, record.seed) in self.waiting:
                    state, worker = "waiting", "for a worker"
                elif (record.number, record.seed) in self.stale:
                    worker += ", stale: no heartbeat, the next worker takes it over"
                lines.append(f"{state}: {name}, after {record.steps} steps, {worker}")
        best = best_of(self.records, Ranking(search, self.records).value)
        if best is not None:
            rung = best.rungs[-1]
            lines.append(f"best so far: candidate {best.number}, loss {rung.loss:.3f}, accuracy {rung.accuracy:.1%}")
        if base:
            losses = [record.rungs[-1].loss for record in base]
            lines.append(f"base: loss {statistics.fmean(losses):.3f}")
        if self.last is not None:
            lines.append(f"last end of a training: {self.last:%Y-%m-%d %H:%M:%S}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the status as plain data."""
        running = [
            {"candidate": record.number, "seed": record.seed, "steps": record.steps, "worker": record.worker}
            for record in (*self.reference_runs, *self.records)
            if record.state is State.RUNNING
        ]
        return {
            "name": self.spec.search.name,
            "trials": self.spec.search.trials,
            "states": dict(Counter(str(record.state) for record in self.records)),
            "references": dict(Counter(str(record.state) for record in self.reference_runs)),
            "to_confirm": self.to_confirm,
            "running": running,
            "under_way": running,  # the key of earlier versions, for one version
            "last": self.last.isoformat() if self.last else None,
        }


def get_status(spec: SearchSpec, studies: Studies) -> Status:
    """Return the current state of a search."""
    records, reference_runs = studies.records(), studies.reference_runs()
    trials = [*studies.candidates.get_trials(deepcopy=False), *studies.references.get_trials(deepcopy=False)]
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete is not None]
    missing = len(plan_confirmations(spec.search, records, reference_runs))
    missing += sum(record.number != BASE and record.state is State.RUNNING for record in reference_runs)
    waiting, stale = (
        frozenset((one["number"], one["seed"]) for trial in some if (one := trial.user_attrs.get(RECORD)))
        for some in ([trial for trial in trials if trial.state is TrialState.WAITING], _stale_trials(studies))
    )
    return Status(spec, tuple(records), tuple(reference_runs), missing, max(ends, default=None), waiting, stale)


def _stale_trials(studies: Studies) -> list[FrozenTrial]:
    """Return the running trials without a recent heartbeat."""
    stale = {
        trial_id
        for study in (studies.candidates, studies.references)
        for trial_id in studies.storage._get_stale_trial_ids(studies.storage.get_study_id_from_name(study.study_name))
    }
    return [studies.storage.get_trial(trial_id) for trial_id in stale]


def repair(run: Path, studies: Studies) -> list[str]:
    """Repair a search after a crash, and return what was done. Raises InputError when the database is corrupt."""
    lines = []
    database = run / DATABASE
    if database.exists():
        with sqlite3.connect(database) as connection:
            (problem,) = connection.execute("pragma integrity_check").fetchone()
        if problem != "ok":
            raise InputError(f"{database}: corrupt: {problem}; candidates.csv and report.json have the last results")
    for study in (studies.candidates, studies.references):
        before = len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        retry_stale(study)
        after = len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        if after < before:
            lines.append(f"{study.study_name}: trainings queued again because their workers died: {before - after}")
        if after:
            lines.append(
                f"{study.study_name}: trainings that are running, or stopped a moment ago: {after}; repeat this later"
            )
    trials = run / "trials"
    for folder in sorted(trials.iterdir()) if trials.is_dir() else ():
        for child in manifest.children(folder):
            problem = manifest.verify(child, FILES)
            lines += [f"{child}: {problem}; the rung below is used, or the training starts again"] if problem else []
    return lines
