"""How far each kind of evidence agrees with published ImageNet accuracy: validity.yaml, by benchmarks/validity.py.

Evidence decides nothing unless the interval of its rank correlation on the paper's models lies above zero and it orders
every known pair. Repeatability is not validity.
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
"""The configuration of the predictor that describes the shipped one: fitted to all models but the one in question."""


@dataclass(frozen=True)
class Validity:
    """The agreement of one kind of evidence with published top-1, on the models of the paper for which it has a value.

    `configuration` says how it was measured. `tau` is Kendall's rank correlation over `models` models, `low`
    and `high` the ends of its 95% bootstrap interval. `pairs_right` of `pairs` known pairs were ordered as published.
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
    def counts(self) -> bool:
        """Whether the evidence may decide."""
        return self.low > 0 and self.pairs_right == self.pairs

    @property
    def correlation(self) -> float:
        """Pearson's correlation of normal variables that have this tau: sin(pi tau / 2); 0 for what does not count."""
        return math.sin(math.pi * self.tau / 2) if self.counts else 0.0

    def __str__(self) -> str:
        pairs = f"{self.pairs_right} of {self.pairs} known pairs right"
        return (
            f"tau {self.tau:+.2f} ({self.low:+.2f} to {self.high:+.2f}) with ImageNet on {self.models} models, {pairs}"
        )


@functools.cache
def measured() -> tuple[Validity, ...]:
    """Every kind and configuration whose validity was measured."""
    return tuple(Validity(kind=row["kind"], configuration=row["configuration"], **row["paper"]) for row in table())


def table() -> list[dict[str, Any]]:
    """The rows of validity.yaml: beside what decides, results on parts of the paper's models and on other sources."""
    rows: list[dict[str, Any]] = read_data(FILE)["evidence"]
    return rows


def provenance() -> Mapping[str, str]:
    """When, with what and on which device the table was measured."""
    found: Mapping[str, str] = read_data(FILE)["measured"]
    return found


def validity_of(kind: str, configuration: Mapping[str, Any]) -> Validity | None:
    """The validity of a kind of evidence in a configuration; None where it was not measured."""
    wanted = dict(configuration)
    return next((one for one in measured() if one.kind == kind and dict(one.configuration) == wanted), None)
