"""The evaluator: a candidate and a number of training steps in, measurements out. A user's own takes its place.

Whatever the evaluator, no candidate over the budget is evaluated: check_cost counts it before.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from t2tbuild.cost.budget import excess
from t2tbuild.cost.counter import count_model
from t2tbuild.cost.memory import predict_memory
from t2tbuild.errors import TrainingError
from t2tbuild.nas.record import Record, State
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search
from t2tbuild.training.seeds import fold_in


@dataclass(frozen=True)
class Candidate:
    """A model to evaluate.

    Attributes:
        model: Its spec; `t2tbuild.build_model(candidate.model)` builds it.
        key: The key of the model, equal for equal models.
        seed: The seed of this training. The same seed must give the same measurements.
        full: Whether the model itself is trained where others are trained at a quarter of their width.
        folder: A folder of this training alone, which stays until the candidate is finished, for checkpoints. It may
            not exist yet.
        check: Called between training steps; it raises when the search is interrupted or its time is over.
    """

    model: ModelSpec
    key: str
    seed: int
    full: bool
    folder: Path
    check: Callable[[], None]


@dataclass(frozen=True)
class Measurements:
    """What was measured of a candidate.

    Attributes:
        accuracy: Validation accuracy, 0 to 1.
        loss: Validation loss in nats.
        latency: Seconds of one inference.
        scores: Zero-cost proxies by name.
        seconds: Seconds of training and evaluation since the measurements before.
    """

    accuracy: float | None = None
    loss: float | None = None
    latency: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class PredictedLatency(Measurements):
    """Measurements of a candidate whose latency is a prediction far over the limit, so that it was not measured."""


class Evaluator(Protocol):
    """Measures candidates."""

    def evaluate(self, candidate: Candidate, steps: int) -> Measurements:
        """Return the measurements of a candidate after `steps` training steps in all.

        It is called with 0 for what needs no training, then with each rung that the candidate reaches.
        """
        ...


EvaluatorFunction = Callable[[Candidate, int], "Measurements | Mapping[str, Any] | float"]
"""An evaluator as a user writes it: it returns an accuracy, a mapping of measurements, or Measurements."""


class FunctionEvaluator:
    """An evaluator that calls a function. It is called with 0 steps only where the search needs a latency."""

    def __init__(self, function: EvaluatorFunction, search: Search) -> None:
        self.function, self.search = function, search
        self.name = name_of(function).rpartition(":")[2]
        self._latencies: dict[str, Measurements] = {}

    def evaluate(self, candidate: Candidate, steps: int) -> Measurements:
        """Return what the function measured. Raises TrainingError where it is not what the search needs."""
        if steps == 0 and not needs("latency", self.search):
            return Measurements()
        if steps == 0 and candidate.key in self._latencies:  # a shape is measured once, whatever the seed
            return self._latencies[candidate.key]
        found = self._to_measurements(self.function(candidate, steps))
        needed = "latency" if steps == 0 else self.search.proxy.metric
        value = getattr(found, needed)
        if value is None or not math.isfinite(value):
            raise TrainingError(f"the evaluator {self.name} returned no finite {needed}, got {value}")
        if steps == 0:
            self._latencies[candidate.key] = found
        return found

    def _to_measurements(self, returned: object) -> Measurements:
        """Return what the function returned as measurements of plain numbers, also of NumPy and torch."""
        found: Mapping[str, Any] = vars(returned) if isinstance(returned, Measurements) else {"accuracy": returned}
        if isinstance(returned, Mapping):
            found = returned
        known = vars(Measurements())
        if unknown := ", ".join(sorted(map(str, found.keys() - known.keys()))):
            message = f"returned unknown measurements: {unknown}; known are {', '.join(known)}"
            raise TrainingError(f"the evaluator {self.name} {message}")
        scores = {name: self._to_number(name, value) for name, value in (found.get("scores") or {}).items()}
        numbers = {
            name: self._to_number(name, value)
            for name, value in found.items()
            if name != "scores" and value is not None
        }
        if numbers.get("accuracy", 0.0) < 0 or numbers.get("accuracy", 0.0) > 1:
            raise TrainingError(f"the evaluator {self.name} returned accuracy {numbers['accuracy']:g}; write 0 to 1")
        return Measurements(**numbers, scores=scores)

    def _to_number(self, name: object, value: Any) -> float:
        try:
            if isinstance(value, str | bool):
                raise TypeError
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            message = f"the evaluator {self.name} returned a {type(value).__name__} for {name}; return a number"
            raise TrainingError(message) from None


def name_of(function: EvaluatorFunction) -> str:
    """Return the name of a function as module:function."""
    kind = type(function)
    return f"{function.__module__}:{getattr(function, '__name__', kind.__name__)}"


def make_candidate(record: Record, search: Search, run: Path, check: Callable[[], None]) -> Candidate:
    """Return the candidate of a record, with its folder in a run directory."""
    assert record.model is not None
    seed, folder = training_seed(search, record), trial_folder(run, record)
    return Candidate(record.model, record.key, seed, record.full, folder, check)


def trial_folder(run: Path, record: Record) -> Path:
    """Return the folder of a training's checkpoints."""
    return run / "trials" / f"{record.key}-{record.seed}{'-full' if record.full else ''}"


def needs(measure: str, search: Search) -> bool:
    """Whether a measure is limited by the budget or is an objective."""
    return measure in search.objectives or getattr(search.budget, measure) is not None


def check_cost(record: Record, search: Search) -> Record:
    """Return the record with the cost of its model as fvcore counts it at full size; infeasible where over budget."""
    model = record.model
    assert model is not None
    cost = count_model(model)
    record = replace(record, params=cost.params, macs=cost.macs)
    if needs("activations", search):
        record = replace(record, activations=predict_memory(model).activations)
    return check_budget(record, search)


def check_budget(record: Record, search: Search) -> Record:
    """Return the record, infeasible where what was measured so far is over the budget."""
    over = [name for name, amount in excess(record.measures, search.budget).items() if amount > 0]
    if not over:
        return record
    names = [f"predicted {name}" if name == "latency" and record.latency is None else name for name in over]
    return replace(record, state=State.INFEASIBLE, reason=f"{', '.join(names)} over budget, so not trained")


def training_seed(search: Search, record: Record) -> int:
    """Return the seed of a training, a function of the search's seed, the candidate and the record's seed."""
    return fold_in(search.seed, int(record.key, 16), record.seed) % 2**32
