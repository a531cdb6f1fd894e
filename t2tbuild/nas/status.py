"""The status of a search, and its repair after a crash."""

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from t2tbuild import manifest
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Record, State, best_of
from t2tbuild.nas.reference_runs import count_base_seeds, plan_confirmations
from t2tbuild.nas.store.recovery import recover_database
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.store.url import DATABASE
from t2tbuild.spec.root import SearchSpec
from t2tbuild.training.run_paths import CHECKPOINT_FILES


@dataclass(frozen=True)
class Status:
    """The current state of a search: the records of candidates and reference runs, and who trains them."""

    spec: SearchSpec
    records: tuple[Record, ...]
    reference_runs: tuple[Record, ...]
    to_confirm: int
    last: datetime | None
    """When the last training ended."""
    waiting: frozenset[tuple[str, int, bool]]
    """Number, seed and full width of trainings that wait for a worker."""
    stale: frozenset[tuple[str, int, bool]]
    """Number, seed and full width of trainings whose worker has sent no heartbeat for too long."""

    @property
    def running(self) -> list[Record]:
        """The trainings that are running, stale ones too."""
        return [
            record
            for record in (*self.reference_runs, *self.records)
            if record.state is State.RUNNING and (record.number, record.seed, record.full) not in self.waiting
        ]

    def lines(self) -> list[str]:
        """Return the status as lines of text."""
        search = self.spec.search
        tally = Counter(map(self._state_of, self.records))
        trained = sum(record.state.trained for record in self.records)
        states = ", ".join(f"{count} {state}" for state, count in sorted(tally.items())) or "none sampled yet"
        lines = [f"{search.name}: {trained} of {search.trials} candidates trained ({states})"]
        base = [
            record
            for record in self.reference_runs
            if record.number == BASE and record.state is State.COMPLETED and not record.full
        ]
        lines.append(f"base: {len(base)} of {count_base_seeds(search)} seeds; {self._describe_confirmations(trained)}")
        for record in (*self.reference_runs, *self.records):
            if record.state is State.RUNNING or (record.number, record.seed, record.full) in self.waiting:
                name = f"{record.number} seed {record.seed}" if record.seed else record.number
                state, worker = "running", f"by {record.worker or 'no worker yet'}"
                if (record.number, record.seed, record.full) in self.waiting:
                    state, worker = "waiting", "for a worker"
                elif (record.number, record.seed, record.full) in self.stale:
                    worker += ", stale: no heartbeat, the next worker takes it over"
                lines.append(f"{state}: {name}, after {record.steps} steps, {worker}")
        best = best_of(self.records, Ranking(search, self.records).value)
        if best is not None:
            rung = best.rungs[-1]
            loss = "" if math.isnan(rung.loss) else f"loss {rung.loss:.3f}, "
            lines.append(f"best single run: candidate {best.number}, {loss}accuracy {rung.accuracy:.1%}")
        if base and not math.isnan(base[0].rungs[-1].loss):
            losses = [record.rungs[-1].loss for record in base]
            lines.append(f"base: loss {statistics.fmean(losses):.3f}")
        if self.last is not None:
            lines.append(f"a training ended last at {self.last:%Y-%m-%d %H:%M:%S}")
        return lines

    def _state_of(self, record: Record) -> str:
        """Return the state of a candidate; one that was interrupted waits for a worker."""
        is_waiting = (record.number, record.seed, record.full) in self.waiting
        return "waiting" if is_waiting else str(record.state)

    def _describe_confirmations(self, trained: int) -> str:
        """Return how many confirmation runs are done; before the first one, how many are planned at most."""
        search, runs = self.spec.search, [record for record in self.reference_runs if record.number != BASE]
        confirm = search.confirm
        if not runs and (confirm is None or not Ranking(search, ()).uses_training):
            return "no confirmation runs"
        if not runs and confirm is not None and trained < search.trials:
            count = f"{confirm.best + confirm.random} candidates with {confirm.seeds} seeds each"
            return f"confirmation runs: at the end, at most {count}"
        done = sum(record.state is State.COMPLETED for record in runs)
        return f"confirmation runs: {done} of {done + self.to_confirm}"

    def to_json(self) -> dict[str, Any]:
        """Return the status as plain data."""
        running = [
            {"candidate": record.number, "seed": record.seed, "steps": record.steps, "worker": record.worker}
            for record in self.running
        ]
        return {
            "name": self.spec.search.name,
            "trials": self.spec.search.trials,
            "states": dict(Counter(map(self._state_of, self.records))),
            "references": dict(Counter(str(record.state) for record in self.reference_runs)),
            "to_confirm": self.to_confirm,
            "running": running,
            "under_way": running,  # the key of earlier versions, for one version
            "last": self.last.isoformat() if self.last else None,
        }


def get_status(spec: SearchSpec, store: Store) -> Status:
    """Return the current state of a search."""
    found, entries = store.snapshot(), store.entries()
    records, reference_runs = found.records, found.reference_runs
    missing = len(plan_confirmations(spec.search, records, reference_runs))
    missing += sum(record.number != BASE and record.state is State.RUNNING for record in reference_runs)
    return Status(
        spec,
        records,
        reference_runs,
        missing,
        last=max((entry.ended for entry in entries if entry.ended is not None), default=None),
        waiting=frozenset((one.record.number, one.record.seed, one.record.full) for one in entries if one.is_waiting),
        stale=frozenset((one.record.number, one.record.seed, one.record.full) for one in entries if one.is_stale),
    )


def repair_database(run: Path) -> list[str]:
    """Rebuild the database of a run directory where it is broken, and return what was done."""
    database = run / DATABASE
    return recover_database(database).lines() if database.exists() else []


def repair(run: Path, store: Store) -> list[str]:
    """Repair a search after a crash, and return what was done."""
    lines = []
    if queued := store.stale.requeue(at_once=True):
        lines.append(f"trainings queued again because their workers died: {queued}")
    if running := store.snapshot().running:
        lines.append(f"trainings that are running, or stopped a moment ago: {running}; repeat this later")
    trials = run / "trials"
    for folder in sorted(trials.iterdir()) if trials.is_dir() else ():
        for child in manifest.children(folder):
            problem = manifest.verify(child, CHECKPOINT_FILES)
            lines += [f"{child}: {problem}; the rung below is used, or the training starts again"] if problem else []
    return lines
