"""What is known of a candidate, in the study and in candidates.csv."""

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
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.space import Value
from t2tbuild.spec.tokenizer import Stage

BASE = "base"


@dataclass(frozen=True)
class Rung:
    """What a candidate showed at a rung, after `steps` steps of training: means over the evaluations that make it up.

    Validation accuracy (0 to 1) and loss (nats), and the seconds of training and evaluation since the rung below.
    """

    steps: int
    accuracy: float
    loss: float
    seconds: float

    def score(self, metric: str) -> float:
        """What candidates are judged by, the higher the better: the accuracy, or -ln(loss).

        By its logarithm losses of 0.2 and 0.4 differ as those of 1 and 2 do, as far as their noise does.
        """
        return self.accuracy if metric == "accuracy" else -math.log(max(self.loss, sys.float_info.min))


class State(StrEnum):
    """What became of a candidate."""

    CLIMBING = "climbing"
    TOP = "top"  # reached the highest rung
    STOPPED = "stopped"  # stopped at a lower rung
    INFEASIBLE = "infeasible"  # over budget or not a valid model: never built for training
    DUPLICATE = "duplicate"  # the same model as an earlier candidate: not trained again
    FAILED = "failed"

    @property
    def trained(self) -> bool:
        return self in (State.TOP, State.STOPPED, State.FAILED)


class Source(StrEnum):
    """Who drew a candidate."""

    SAMPLER = "sampler"
    RANDOM = "random"  # uniform over the space, within the budget: the baseline of the same search
    NAMED = "named"  # the base, and the models that `enqueue` names


@dataclass(frozen=True)
class Record:
    """A candidate, its cost at full size as fvcore counted it on the built module, and what its training showed.

    Beside it were drawn and left: `infeasible`, out of budget; `duplicates`, not new; `passed`, of a worse cheap score.
    `latency` is in seconds an image, `activations` in bytes; they are there where the search asks for them. `scores`
    are the cheap ones of what was trained. `full` says that the candidate itself was trained where the others were
    twins.
    """

    number: str
    state: State
    model: ModelSpec | None
    key: str = ""
    arm: Source = Source.SAMPLER
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
    passed: int = 0
    full: bool = False
    worker: str = ""

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy, 0 to 1, at the highest rung reached."""
        return self.rungs[-1].accuracy if self.rungs else None

    @property
    def steps(self) -> int:
        return self.rungs[-1].steps if self.rungs else 0

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return sum(rung.seconds for rung in self.rungs)

    def score(self, metric: str) -> float:
        """What it is judged by at the highest rung reached, the higher the better; it has one."""
        return self.rungs[-1].score(metric)

    def at(self, steps: int) -> Rung | None:
        """What it showed at the rung of so many steps; None where it did not get there."""
        return next((rung for rung in self.rungs if rung.steps == steps), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads."""
        return vars(self) | {
            "state": str(self.state),
            "arm": str(self.arm),
            "model": self.model.model_dump(mode="json") if self.model else None,
            "scores": dict(self.scores),
            "rungs": [vars(rung) for rung in self.rungs],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Record":
        read = {
            "state": State(data["state"]),
            "arm": Source(data["arm"]),
            "model": ModelSpec.model_validate(data["model"]) if data["model"] else None,
            "rungs": tuple(Rung(**rung) for rung in data["rungs"]),
        }
        return cls(**{**data, **read})


def canonical(model: ModelSpec) -> str:
    """Text that two models share exactly when they are the same but for their names."""
    same_heads = {"num_heads": list(model.backbone.heads), "head_dim": None, "mlp_ratio": list(model.backbone.mlp_dims)}
    backbone = model.backbone.model_dump(mode="json") | same_heads
    windows = [(window.model_dump(mode="json", exclude={"padding"}), window.pad) for window in model.tokenizer.windows]
    tokenizer = (model.tokenizer.kind, windows)
    return repr(
        (model.image, model.in_chans, model.num_classes, model.distillation_token, tokenizer, sorted(backbone.items()))
    )


def key_of(model: ModelSpec) -> str:
    """A word that two models share exactly when they are the same but for their names."""
    return hashlib.sha256(canonical(model).encode()).hexdigest()[:16]


def best_of(records: Iterable[Record], value: Callable[[Record], float]) -> Record | None:
    """The best by `value` of those that reached the highest rung; of equals the cheaper."""
    top = [record for record in records if record.state is State.TOP]
    return max(top, key=lambda record: (value(record), -(record.macs or 0)), default=None)


def write_csv(
    records: Sequence[Record],
    path: Path,
    *,
    trained_as: str,
    accuracy: Callable[[ModelSpec], Accuracy],
    rank: Callable[[Record], float],
) -> None:
    """One row a candidate. params and macs are fvcore's count of the candidate at its full size.

    predicted_* are ImageNet top-1 in percent with the 90% interval, `value` is what candidates are ranked by.
    """
    names = ["candidate", "arm", "state", "params", "macs", "seed", "rung_steps", "accuracy", "loss", "train_seconds"]
    names += ["predicted_top1", "predicted_low", "predicted_high", "value"]
    shape = ["depth", "embed_dim", "num_heads", "mlp_ratio", "token_dims", "attentions", "trained_as", "reason"]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [*names, *shape])
    writer.writeheader()
    for record in records:
        row: dict[str, Value | None] = {
            "candidate": record.number,
            "arm": str(record.arm),
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
        writer.writerow(row | (shape_of(record.model) if record.model else {}))
    atomic_write(path, table.getvalue())


def shape_of(model: ModelSpec) -> dict[str, Value | None]:
    """The fields of a model that people compare, each as one word."""

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
