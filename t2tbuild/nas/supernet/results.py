"""The results of a supernet as CSV files: members.csv, standalone.csv and confirmed.csv. Torch-free.

A file is written whole, so a search that is killed continues with what it has.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from t2tbuild.files import atomic_write, csv_text
from t2tbuild.spec.space import Value

FOLDER = "supernet"
"""The folder of a run directory that holds all files of its supernet."""

Start = Literal["inherited", "fresh"]


@dataclass(frozen=True)
class InheritedResult:
    """A member with inherited weights on the validation split. Latency (seconds) is None where it is not needed."""

    key: str
    macs: int
    params: int
    latency: float | None
    accuracy: float
    loss: float
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class StandaloneResult:
    """A random member that was trained alone, from randomly initialised weights."""

    key: str
    macs: int
    params: int
    depth: int
    width: int
    inherited_loss: float
    inherited_accuracy: float
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class ConfirmedResult:
    """A member that was trained on, from inherited or from randomly initialised weights.

    `why` is best or random. `budget` is the limit on MACs within which it is the best, 0 without one.
    """

    key: str
    why: str
    budget: int
    start: Start
    seed: int
    loss: float
    accuracy: float
    seconds: float


Result = TypeVar("Result", InheritedResult, StandaloneResult, ConfirmedResult)
FILES = {InheritedResult: "members.csv", StandaloneResult: "standalone.csv", ConfirmedResult: "confirmed.csv"}


def write_results(folder: Path, kind: type[Result], results: Sequence[Result]) -> None:
    """Write the results of a kind into a supernet's folder. Floats are written in full."""
    rows = [_to_row(result) for result in results]
    columns = dict.fromkeys(one.name for one in fields(kind) if one.name != "values")
    for row in rows:
        columns |= dict.fromkeys(row)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / FILES[kind], csv_text(list(columns), rows, end="\n"))


def read_results(folder: Path, kind: type[Result]) -> list[Result]:
    """Return the results of a kind in a supernet's folder, none where there is no file."""
    path = folder / FILES[kind]
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return [_from_row(kind, row) for row in csv.DictReader(stream)]


def _to_row(result: Any) -> dict[str, Any]:
    row = asdict(result)
    values = row.pop("values", {})
    return row | {path: _to_text(value) for path, value in values.items()}


def _to_text(value: Value) -> str | int | float:
    return value if isinstance(value, str) or type(value) in (int, float) else json.dumps(value, sort_keys=True)


def _from_text(text: str) -> Value:
    try:
        value: Value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, dict | list) else value  # a mapping stays JSON, as the pool has it


def _from_row(kind: type[Result], row: dict[str, str]) -> Result:
    found: dict[str, Any] = {
        one.name: _convert(row.pop(one.name), one.type) for one in fields(kind) if one.name != "values"
    }
    if kind is InheritedResult:
        found["values"] = {path: _from_text(text) for path, text in row.items() if text != ""}
    return kind(**found)


def _convert(text: str, to: object) -> str | int | float | None:
    """Return the value of a column of a type: str or Start, int, float, or float | None."""
    if to is int:
        return int(text)
    if to in (str, Start):
        return text
    return float(text) if text else None


def loss_order(result: InheritedResult) -> tuple[float, int]:
    """Return what sorts members, the best first: the inherited loss, of equal ones the MACs."""
    return (result.loss if math.isfinite(result.loss) else math.inf), result.macs
