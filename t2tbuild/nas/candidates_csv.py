"""candidates.csv: one row per record."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from t2tbuild.accuracy.predictor import Accuracy
from t2tbuild.files import atomic_write, csv_text
from t2tbuild.nas.record import Record
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.space import Value
from t2tbuild.spec.tokenizer import Stage


def write_csv(
    records: Sequence[Record],
    path: Path,
    *,
    trained_as: str,
    accuracy: Callable[[ModelSpec], Accuracy],
    rank: Callable[[Record], float],
) -> None:
    """Write a CSV file with one row per record.

    Columns params and macs are fvcore's count of the candidate at full size, latency_ms is the measured latency,
    predicted_latency_ms the prediction for a candidate that was not measured. predicted_top1, predicted_low and
    predicted_high are the ImageNet top-1 in percent with its 90% interval, value is the value that ranks candidates.
    """
    names = [
        "candidate",
        "source",
        "state",
        "params",
        "macs",
        "latency_ms",
        "predicted_latency_ms",
        "seed",
        "rung_steps",
        "accuracy",
        "loss",
        "train_seconds",
    ]
    names += ["predicted_top1", "predicted_low", "predicted_high", "value"]
    shape = ["depth", "embed_dim", "num_heads", "mlp_ratio", "token_dims", "attentions", "trained_as", "reason"]
    rows = []
    for record in records:
        row: dict[str, Value | None] = {
            "candidate": record.number,
            "source": str(record.source),
            "seed": record.seed,
            "state": str(record.state),
            "params": record.params,
            "macs": record.macs,
            "latency_ms": _milliseconds(record.latency),
            "predicted_latency_ms": _milliseconds(record.predicted_latency),
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
        rows.append(row | (shape_columns(record.model) if record.model else {}))
    atomic_write(path, csv_text([*names, *shape], rows))


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 4)


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
