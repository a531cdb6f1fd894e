"""Who trained what when, as far as a storage has it."""

from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from t2tbuild.nas.record import State
from t2tbuild.nas.storage import RECORD
from t2tbuild.nas.store import Studies, counted


@dataclass(frozen=True)
class Span:
    """One candidate in the hands of one worker, `start` to `end` in seconds since the first of the search began.

    From the draw to the last rung: the count by fvcore and the cheap scores are in it.
    Of a training that a second worker took over, the span is the second's. `end` is None while it is under way.
    """

    number: str
    seed: int
    full: bool
    state: str
    worker: str
    start: float
    end: float | None


def timeline(studies: Studies) -> list[Span]:
    """The trainings of a search in the order in which they began; what was drawn and not trained has none."""
    trials = [
        trial
        for trial in chain(counted(studies.references), counted(studies.candidates))
        if trial.datetime_start is not None and _is_training(trial.user_attrs.get(RECORD))
    ]
    starts = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    if not starts:
        return []
    began = min(starts)
    spans = [
        _span(trial.user_attrs[RECORD], began, start, trial.datetime_complete)
        for trial, start in zip(trials, starts, strict=True)
    ]
    return sorted(spans, key=lambda span: span.start)


def _is_training(record: dict[str, Any] | None) -> bool:
    return record is not None and (record["state"] == "climbing" or State(record["state"]).trained)


def _span(record: dict[str, Any], began: datetime, start: datetime, end: datetime | None) -> Span:
    since, until = ((moment - began).total_seconds() if moment else None for moment in (start, end))
    message = (record["number"], record["seed"], record["full"], record["state"], record.get("worker", ""))
    return Span(*message, start=since or 0.0, end=until)
