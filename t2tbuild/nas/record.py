"""The record of a candidate, as the study and report.json store it."""

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from t2tbuild.nas import old_names
from t2tbuild.spec.model import ModelSpec

KEY = re.compile(r"\w*")
"""The form of a `key`, which names the folder of a training's checkpoints."""
BASE = "base"
"""The `number` of the base's records."""


class UnknownKey(ValueError):  # noqa: N818  # data of a newer version, not an error in them
    """A stored record has everything that this version knows, and a key that it does not know."""


@dataclass(frozen=True)
class Rung:
    """The result of a candidate at a rung, after `steps` training steps: the mean over the rung's evaluations.

    `accuracy` (0 to 1) and `loss` (nats) are of the validation split. `seconds` is the time of training and evaluation
    since the previous rung.
    """

    steps: int
    accuracy: float
    loss: float
    seconds: float

    def score(self, metric: str) -> float:
        """Return the score that ranks candidates, higher is better: the accuracy, or -ln(loss).

        The logarithm makes the noise of losses comparable: losses of 0.2 and 0.4 differ as much as losses of 1 and 2.
        """
        return self.accuracy if metric == "accuracy" else -math.log(max(self.loss, sys.float_info.min))

    def __str__(self) -> str:
        """Return accuracy and loss, as in `81.3%, loss 0.78`; an evaluator of one's own may give no loss."""
        return f"{self.accuracy:.1%}" + ("" if math.isnan(self.loss) else f", loss {self.loss:.2f}")


class State(StrEnum):
    """The state of a candidate."""

    RUNNING = "running"
    COMPLETED = "completed"  # reached the highest rung
    PRUNED = "pruned"  # stopped at a lower rung
    INFEASIBLE = "infeasible"  # over budget or not a valid model: never built for training
    DUPLICATE = "duplicate"  # the same model as an earlier candidate: not trained again
    FAILED = "failed"

    @classmethod
    def _missing_(cls, value: object) -> "State | None":
        new = old_names.STATES.get(value) if isinstance(value, str) else None
        return None if new is None else cls(new)

    @property
    def trained(self) -> bool:
        """Whether the training of the candidate has ended, at any rung."""
        return self in (State.COMPLETED, State.PRUNED, State.FAILED)


class Outcome(StrEnum):
    """How a search ended."""

    COMPLETE = "complete"  # all requested candidates were trained
    EXHAUSTED = "exhausted"  # the space has no new candidate left
    CONVERGED = "converged"  # more candidates no longer help
    TIMEOUT = "timeout"
    UNFINISHED = "unfinished"  # it may still be running


class Source(StrEnum):
    """The origin of a candidate."""

    SAMPLER = "sampler"
    RANDOM = "random"  # uniform over the space, within the budget: the random baseline of the same search
    NAMED = "named"  # the base, and the models of `enqueue`


@dataclass(frozen=True)
class Record:
    """A candidate, its cost at full size as fvcore counts it on the built module, and its training results.

    `latency` (seconds) and `activations` (bytes) are set where the search limits or optimises them; `predicted_latency`
    in place of the latency of a candidate that was not measured, as it is far over the limit. `scores` are the
    zero-cost proxies of the proxy model. `full` is true where the candidate itself was trained while the others were
    trained at quarter width. The sampler rejected `infeasible` draws as out of budget, `duplicates` as not new, and
    `passed_over` as ranked below this one. `chosen_by` is the kind of evidence that chose this candidate for training:
    `predictor`, `supernet` or the name of a zero-cost proxy; empty where none did.
    """

    number: str
    state: State
    model: ModelSpec | None
    key: str = ""
    source: Source = Source.SAMPLER
    seed: int = 0
    params: int | None = None
    macs: int | None = None
    activations: int | None = None
    latency: float | None = None
    predicted_latency: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    rungs: tuple[Rung, ...] = ()
    reason: str = ""
    infeasible: int = 0
    duplicates: int = 0
    passed_over: int = 0
    chosen_by: str = ""
    full: bool = False
    worker: str = ""

    arm = old_names.renamed_property("arm", "source")
    passed = old_names.renamed_property("passed", "passed_over")

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy, 0 to 1, at the highest rung reached."""
        return self.rungs[-1].accuracy if self.rungs else None

    @property
    def steps(self) -> int:
        """Training steps at the highest rung reached, 0 before the first."""
        return self.rungs[-1].steps if self.rungs else 0

    @property
    def measures(self) -> dict[str, float]:
        """The measured costs by the names of the budget's fields; the latency may be predicted."""
        found = {name: getattr(self, name) for name in ("macs", "params", "activations")}
        found["latency"] = self.predicted_latency if self.latency is None else self.latency
        return {name: value for name, value in found.items() if value is not None}

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return sum(rung.seconds for rung in self.rungs)

    def score(self, metric: str) -> float:
        """Return the score at the highest rung reached, higher is better. The record must have a rung."""
        return self.rungs[-1].score(metric)

    def at(self, steps: int) -> Rung | None:
        """Return the result at the rung of `steps` steps, None where the candidate did not reach it."""
        return next((rung for rung in self.rungs if rung.steps == steps), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `from_json`."""
        return vars(self) | {
            "state": str(self.state),
            "source": str(self.source),
            "model": self.model.model_dump(mode="json") if self.model else None,
            "scores": dict(self.scores),
            "rungs": [vars(rung) for rung in self.rungs],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Record":
        """Return the record that `to_json`, of this or the previous version, wrote as plain data.

        Raises UnknownKey for the data of a newer version, KeyError, TypeError or ValueError for other data.
        """
        data = old_names.with_new_names(dict(data), old_names.RECORD_KEYS)
        if not KEY.fullmatch(data.get("key", "")):
            raise ValueError(f"the key {data['key']!r:.80}")
        if type(data.get("seed", 0)) is not int or type(data.get("full", False)) is not bool:  # a text is a path, too
            raise ValueError(f"the seed {data.get('seed')!r:.80} or full {data.get('full')!r:.80}")
        parsed = {
            "state": State(data["state"]),
            "source": Source(data["source"]),
            "model": _read_model(data["model"]) if data["model"] else None,
            "rungs": tuple(Rung(**_known(Rung, rung)) for rung in data["rungs"]),
        }
        return cls(**_known(cls, data | parsed))


def _known(kind: type, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data of a dataclass. Raises UnknownKey where it has all its required fields and others."""
    names = {one.name for one in fields(kind)}
    required = {one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING}
    if required <= data.keys() and (unknown := data.keys() - names):
        raise UnknownKey(min(unknown))
    return data


def _read_model(data: Any) -> ModelSpec:
    """Return a stored model. Raises UnknownKey where nothing but unknown fields is wrong with it."""
    try:
        return ModelSpec.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        if all(one["type"] == "extra_forbidden" for one in found):
            raise UnknownKey(found[0]["loc"][-1]) from None
        raise


def best_of(records: Iterable[Record], value: Callable[[Record], float]) -> Record | None:
    """Return the completed record of the highest `value`, of equal ones that with fewer MACs; None if there is none."""
    top = [record for record in records if record.state is State.COMPLETED]
    return max(top, key=lambda record: (value(record), -(record.macs or 0)), default=None)
