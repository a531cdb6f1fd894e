"""The timeline of a search: which worker trained which candidate, and when."""

from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from t2tbuild.nas.record import State
from t2tbuild.nas.storage import RECORD
from t2tbuild.nas.store import Studies, valid_trials


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


def build_timeline(studies: Studies) -> list[Span]:
    """Return the trainings of a search by their start. Candidates that were not trained have no span."""
    trials = [
        trial
        for trial in chain(valid_trials(studies.references), valid_trials(studies.candidates))
        if trial.datetime_start is not None and _is_training(trial.user_attrs.get(RECORD))
    ]
    starts = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    if not starts:
        return []
    began = min(starts)
    spans = [
        _make_span(trial.user_attrs[RECORD], began, start, trial.datetime_complete)
        for trial, start in zip(trials, starts, strict=True)
    ]
    return sorted(spans, key=lambda span: span.start)


def _is_training(record: dict[str, Any] | None) -> bool:
    return record is not None and (State(record["state"]) is State.RUNNING or State(record["state"]).trained)


def _make_span(record: dict[str, Any], began: datetime, start: datetime, end: datetime | None) -> Span:
    since, until = ((moment - began).total_seconds() if moment else None for moment in (start, end))
    return Span(
        number=record["number"],
        seed=record["seed"],
        full=record["full"],
        state=str(State(record["state"])),
        worker=record.get("worker", ""),
        start=since or 0.0,
        end=until,
    )
