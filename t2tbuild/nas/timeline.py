"""The timeline of a search: which worker trained which candidate, and when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from t2tbuild.nas.record import Record, State
from t2tbuild.nas.store.trials import Entry


@dataclass(frozen=True)
class Span:
    """The time that a worker spent on one training, in seconds since the first training of the search began.

    It lasts from sampling to the last rung and includes fvcore's count and the zero-cost proxies. Where a second worker
    took over a training, the span is the second worker's. `end` is None while the training runs.
    """

    number: str
    seed: int
    full: bool
    state: str
    worker: str
    start: float
    end: float | None


def build_timeline(entries: Sequence[Entry]) -> list[Span]:
    """Return the trainings of a search by their start. Candidates that were not trained have no span."""
    started = [
        (entry, entry.started)
        for entry in entries
        if entry.started is not None and not entry.is_waiting and _is_training(entry.record)
    ]
    if not started:
        return []
    began = min(start for _, start in started)
    return sorted((_make_span(entry, start, began) for entry, start in started), key=lambda span: span.start)


def _is_training(record: Record) -> bool:
    return record.state is State.RUNNING or record.state.trained


def _make_span(entry: Entry, start: datetime, began: datetime) -> Span:
    record = entry.record
    return Span(
        number=record.number,
        seed=record.seed,
        full=record.full,
        state=str(record.state),
        worker=record.worker,
        start=(start - began).total_seconds(),
        end=(entry.ended - began).total_seconds() if entry.ended else None,
    )
