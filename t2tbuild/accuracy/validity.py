"""The agreement of each kind of evidence with published ImageNet accuracy: validity.yaml, by benchmarks/validity.py.

A proxy is used only if the interval of its rank correlation on the paper's models lies above zero and it orders every
known pair as published. Repeatability is not validity. The predictor is the prior and is not held to this rule.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2tbuild.accuracy.read import read_data

FILE = Path(__file__).parent / "validity.yaml"
PREDICTOR = "predictor"
PROXY_TRAINING = "proxy training"
AS_SHIPPED = {"fitted_without": "the model"}
"""The configuration of the shipped predictor; its validity was measured with the predicted model left out."""


@dataclass(frozen=True)
class Validity:
    """The agreement of one kind of evidence with published top-1, on the paper's models that it has a value for.

    `configuration` is the configuration that it was measured in. `tau` is Kendall's rank correlation over `models`
    models, `low` and `high` are the ends of its 95% bootstrap interval. `pairs_right` of `pairs` known pairs are
    ordered as published.
    """

    kind: str
    configuration: Mapping[str, Any]
    models: int
    tau: float
    low: float
    high: float
    pairs_right: int
    pairs: int

    @property
    def is_valid(self) -> bool:
        """Whether the evidence may affect a ranking."""
        return self.low > 0 and self.pairs_right == self.pairs

    @property
    def correlation(self) -> float:
        """Pearson's correlation of normal variables with this tau, sin(pi tau / 2); 0 for invalid evidence."""
        return math.sin(math.pi * self.tau / 2) if self.is_valid else 0.0

    def __str__(self) -> str:
        pairs = f"{self.pairs_right} of {self.pairs} known pairs right"
        return (
            f"tau {self.tau:+.2f} ({self.low:+.2f} to {self.high:+.2f}) with ImageNet on {self.models} models, {pairs}"
        )


@functools.cache
def load_validities() -> tuple[Validity, ...]:
    """Load the validity of every kind and configuration that was measured."""
    return tuple(Validity(kind=row["kind"], configuration=row["configuration"], **row["paper"]) for row in load_rows())


def load_rows() -> list[dict[str, Any]]:
    """Load the rows of validity.yaml, with results on subsets of the paper's models and on other sources."""
    rows: list[dict[str, Any]] = read_data(FILE)["evidence"]
    return rows


def load_provenance() -> Mapping[str, str]:
    """Load the date, software versions and device of the measurement."""
    found: Mapping[str, str] = read_data(FILE)["measured"]
    return found


def validity_of(kind: str, configuration: Mapping[str, Any]) -> Validity | None:
    """Return the validity of a kind of evidence in a configuration, None where it was not measured."""
    wanted = dict(configuration)
    return next((one for one in load_validities() if one.kind == kind and dict(one.configuration) == wanted), None)
