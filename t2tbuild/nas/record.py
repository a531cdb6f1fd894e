"""The record of a candidate, as the study, candidates.csv and report.json store it."""

import csv
import hashlib
import io
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from t2tbuild.accuracy.predictor import Accuracy
from t2tbuild.files import atomic_write
from t2tbuild.nas import old_names
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.space import Value
from t2tbuild.spec.tokenizer import Stage

BASE = "base"
"""The `number` of the base's records."""


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

    `latency` (seconds an image) and `activations` (bytes) are set where the search limits or optimises them. `scores`
    are the zero-cost proxies of the proxy model. `full` is true where the candidate itself was trained while the others
    were trained at quarter width. The sampler rejected `infeasible` draws as out of budget, `duplicates` as not new,
    and `passed_over` as ranked below this one.
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
    scores: Mapping[str, float] = field(default_factory=dict)
    rungs: tuple[Rung, ...] = ()
    reason: str = ""
    infeasible: int = 0
    duplicates: int = 0
    passed_over: int = 0
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
        """The measured costs by the names of the budget's fields."""
        found = {name: getattr(self, name) for name in ("macs", "params", "activations", "latency")}
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
        """Return the record that `to_json`, of this or the previous version, wrote as plain data."""
        data = old_names.with_new_names(dict(data), old_names.RECORD_KEYS)
        parsed = {
            "state": State(data["state"]),
            "source": Source(data["source"]),
            "model": ModelSpec.model_validate(data["model"]) if data["model"] else None,
            "rungs": tuple(Rung(**rung) for rung in data["rungs"]),
        }
        return cls(**(data | parsed))


def canonical(model: ModelSpec) -> str:
    """Return a text that is equal for two models exactly when they differ in nothing but their names."""
    same_heads = {"num_heads": list(model.backbone.heads), "head_dim": None, "mlp_ratio": list(model.backbone.mlp_dims)}
    backbone = model.backbone.model_dump(mode="json") | same_heads
    windows = [(window.model_dump(mode="json", exclude={"padding"}), window.pad) for window in model.tokenizer.windows]
    tokenizer = (model.tokenizer.kind, windows)
    return repr(
        (model.image, model.in_chans, model.num_classes, model.distillation_token, tokenizer, sorted(backbone.items()))
    )


def key_of(model: ModelSpec) -> str:
    """Return a hash that is equal for two models exactly when they differ in nothing but their names."""
    return hashlib.sha256(canonical(model).encode()).hexdigest()[:16]


def best_of(records: Iterable[Record], value: Callable[[Record], float]) -> Record | None:
    """Return the completed record of the highest `value`, of equal ones that with fewer MACs; None if there is none."""
    top = [record for record in records if record.state is State.COMPLETED]
    return max(top, key=lambda record: (value(record), -(record.macs or 0)), default=None)


def write_csv(
    records: Sequence[Record],
    path: Path,
    *,
    trained_as: str,
    accuracy: Callable[[ModelSpec], Accuracy],
    rank: Callable[[Record], float],
) -> None:
    """Write a CSV file with one row per record.

    Columns params and macs are fvcore's count of the candidate at full size, predicted_* the ImageNet top-1 in percent
    with its 90% interval, and value is the value that ranks candidates.
    """
    names = [
        "candidate",
        "source",
        "state",
        "params",
        "macs",
        "seed",
        "rung_steps",
        "accuracy",
        "loss",
        "train_seconds",
    ]
    names += ["predicted_top1", "predicted_low", "predicted_high", "value"]
    shape = ["depth", "embed_dim", "num_heads", "mlp_ratio", "token_dims", "attentions", "trained_as", "reason"]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [*names, *shape])
    writer.writeheader()
    for record in records:
        row: dict[str, Value | None] = {
            "candidate": record.number,
            "source": str(record.source),
            "seed": record.seed,
            "state": str(record.state),
            "params": record.params,
            "macs": record.macs,
            "rung_steps": record.steps,
            "accuracy": None if record.accuracy is None else round(record.accuracy, 6),
            "loss": round(record.rungs[-1].loss, 6) if record.rungs else None,
            "train_seconds": round(record.seconds, 2),
            "trained_as": trained_as if record.rungs else "",
            "reason": record.reason,
        }
        predicted = accuracy(record.model) if record.model else None
        for name in ("top1", "low", "high"):
            value = getattr(predicted, name, None)
            row[f"predicted_{name}"] = None if value is None else round(value, 2)
        value = rank(record)
        row["value"] = round(value, 4) if math.isfinite(value) else None
        writer.writerow(row | (shape_columns(record.model) if record.model else {}))
    atomic_write(path, table.getvalue())


def shape_columns(model: ModelSpec) -> dict[str, Value | None]:
    """Return the columns of candidates.csv that describe a model's shape, each as one word."""

    def one_word(values: Sequence[object]) -> str:
        return str(values[0]) if len(set(values)) == 1 else "/".join(map(str, values))

    below = model.tokenizer.windows[:-1]
    return {
        "depth": model.backbone.depth,
        "embed_dim": model.backbone.embed_dim,
        "num_heads": one_word(model.backbone.heads),
        "mlp_ratio": one_word(model.backbone.mlp_ratios),
        "token_dims": "/".join(str(window.token_dim) for window in below),
        "attentions": "/".join(
            window.attention.kind for window in below if isinstance(window, Stage) and window.attention
        ),
    }
