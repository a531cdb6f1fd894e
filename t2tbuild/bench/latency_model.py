"""A latency model: the seconds of a forward pass as a sum over its operations, fitted on one device. Torch-free.

As nn-Meter does (Zhang et al., MobiSys 2021), it predicts a model from its kernels. The kernels come from the symbolic
forward, and the table, seconds for each unit of work of each kind, from whole models that were measured, by
non-negative least squares on relative errors. So it needs no microbenchmark of single kernels.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from t2tbuild.cost.roofline import moved_bytes
from t2tbuild.errors import CostError
from t2tbuild.spec.model import ModelSpec
from t2tbuild.symbolic.forward import FULL, Operation
from t2tbuild.symbolic.model import record

MIN_MODELS = 6
"""With fewer measured models there is no latency model."""
RIDGE = 1e-3
"""Weight of each unit of work's share against the residuals. It decides between tables that fit equally well."""

Work = Mapping[str, float]
"""The work of a model by kind: multiply-adds, bytes and kernels."""


def latency_features(model: ModelSpec, batch: int = 1) -> Work | None:
    """Return the work of a forward pass in float32, None for a model without a symbolic forward.

    Each kind of operation with matrix products has its multiply-adds, and all others together have their bytes.
    `kernels` is the number of operations other than views, each of which costs something whatever its size. With bytes
    of each kind, a table of few models fits noise: the error is a third larger (benchmarks/latency_model.py).
    """
    try:
        steps = record(model, batch, FULL, training=False).steps
    except CostError:
        return None
    found: dict[str, float] = defaultdict(float)
    for operation in steps:
        if isinstance(operation, Operation) and (moved := moved_bytes(operation)):
            found["kernels"] += 1
            if operation.macs:
                found[f"{operation.kind} macs"] += operation.macs * batch
            else:
                found["bytes"] += moved
    return dict(found)


@dataclass(frozen=True)
class LatencyModel:
    """Seconds for each unit of work of each kind, and the constant seconds of a forward pass."""

    table: Mapping[str, float]
    constant: float

    def predict(self, work: Work) -> float:
        """Return the predicted seconds of a forward pass. Work of a kind that no fitted model had costs nothing."""
        return self.constant + sum(amount * self.table.get(kind, 0.0) for kind, amount in work.items())


def fit_latency_model(works: Sequence[Work], seconds: Sequence[float]) -> LatencyModel:
    """Fit a latency model to measured models.

    >>> model = fit_latency_model([{"bytes": 1e6}, {"bytes": 2e6}, {"bytes": 4e6}], [0.001, 0.002, 0.004])
    >>> round(1e9 * model.predict({"bytes": 3e6}) / 3e6, 2)
    1.0
    """
    kinds = sorted(set().union(*works))
    measured = np.asarray(seconds, dtype=np.float64)
    amounts = np.array([[work.get(kind, 0.0) for kind in kinds] + [1.0] for work in works])
    relative = amounts / measured[:, None]
    scale = relative.mean(axis=0)  # then a weight is a share of a mean model's time
    rows = np.vstack([relative / scale, RIDGE * np.eye(len(scale))])
    shares, _ = scipy.optimize.nnls(rows, np.concatenate([np.ones(len(measured)), np.zeros(len(scale))]))
    weights = (shares / scale).tolist()
    return LatencyModel(dict(zip(kinds, weights[:-1], strict=True)), weights[-1])


@dataclass(frozen=True)
class PredictionError:
    """Relative errors of predictions that were made before the measurements: |predicted / measured - 1|."""

    count: int
    median: float
    worst: float

    def __str__(self) -> str:
        return f"median {self.median:.1%}, worst {self.worst:.1%} of {self.count} fresh measurements"


def prediction_error(predicted: Sequence[float], measured: Sequence[float]) -> PredictionError | None:
    """Return the error of predictions, None without any.

    >>> prediction_error([1.0, 1.1, 2.6], [1.0, 1.0, 2.0])
    PredictionError(count=3, median=0.1, worst=0.3)
    """
    if not predicted:
        return None
    errors = np.round(np.abs(np.asarray(predicted) / np.asarray(measured) - 1), 6)
    return PredictionError(len(errors), float(np.median(errors)), float(errors.max()))
