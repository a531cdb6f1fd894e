"""The measured latencies of a search, kept in its store: each shape is measured once per device and runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from t2tbuild.bench.latency_model import PredictionError, Work, prediction_error

PREFIX = "latency of "
"""The beginning of the keys of readings in the metadata of a store."""


@dataclass(frozen=True)
class LatencyMeasurement:
    """A measurement of one shape.

    Attributes:
        seconds: The latency.
        work: The work of the model, None without a symbolic forward.
        predicted: The latency model's prediction before the measurement, None where there was no model yet.
        reference: The base's median in the same rounds, in seconds; None where it was not timed beside it.
        rounds: The number of rounds.
    """

    seconds: float
    work: Work | None = None
    predicted: float | None = None
    reference: float | None = None
    rounds: int = 1


class LatencyStore(Protocol):
    """Where readings are kept: the store of a search, or a dictionary."""

    def get_meta(self, key: str) -> Any:
        """Return a value, None where there is none."""

    def keep_meta(self, key: str, value: Any) -> Any:
        """Store a value unless there is one already, and return the one that is stored."""

    def all_meta(self) -> Mapping[str, Any]:
        """Return every value by its key."""


@dataclass
class MemoryStore:
    """Readings that are kept in this process only."""

    values: dict[str, Any] = field(default_factory=dict)

    def get_meta(self, key: str) -> Any:
        return self.values.get(key)

    def keep_meta(self, key: str, value: Any) -> Any:
        return self.values.setdefault(key, value)

    def all_meta(self) -> Mapping[str, Any]:
        return self.values


class Readings:
    """The readings of one method on one device."""

    def __init__(self, store: LatencyStore, method: str) -> None:
        self._store, self._prefix = store, f"{PREFIX}{method}: "

    def get(self, key: str) -> LatencyMeasurement | None:
        """Return the reading of a model by its key, None where it was not measured."""
        found = self._store.get_meta(self._prefix + key)
        return None if found is None else LatencyMeasurement(**found)

    def keep(self, key: str, reading: LatencyMeasurement) -> LatencyMeasurement:
        """Store a reading, and return the one that counts: that of another worker, if it was faster."""
        return LatencyMeasurement(**self._store.keep_meta(self._prefix + key, vars(reading)))

    def all(self) -> list[LatencyMeasurement]:
        """Return every reading."""
        return _read(self._store.all_meta(), self._prefix)


@dataclass(frozen=True)
class LatencySummary:
    """What a search measured: its shapes, those that were predicted instead, and how exact the predictions were."""

    measured: int
    predicted: int
    error: PredictionError | None

    def __str__(self) -> str:
        text = f"latency: {self.measured} shapes measured"
        if self.predicted:
            text += f", {self.predicted} predicted far over the limit and not measured"
        return text + (f"; error of the latency model: {self.error}" if self.error else "")


def summarize_readings(store: LatencyStore, predicted: int) -> LatencySummary | None:
    """Return the summary of all readings of a search, None without any. `predicted` shapes were not measured."""
    readings = _read(store.all_meta(), PREFIX)
    return LatencySummary(len(readings), predicted, error_of(readings)) if readings else None


def error_of(readings: Sequence[LatencyMeasurement]) -> PredictionError | None:
    """Return the error of the predictions that were made before measurements."""
    both = [(one.predicted, one.seconds) for one in readings if one.predicted is not None]
    return prediction_error([predicted for predicted, _ in both], [seconds for _, seconds in both])


def _read(values: Mapping[str, Any], prefix: str) -> list[LatencyMeasurement]:
    return [LatencyMeasurement(**value) for key, value in values.items() if key.startswith(prefix)]
