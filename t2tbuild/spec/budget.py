"""The budget of a search: limits on the cost of a candidate."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, SerializationInfo
from pydantic_core import PydanticCustomError

from t2tbuild.spec.base import FULL, Bytes, Count, Node, Shorthand, Violation, number_or_text, rule, unit
from t2tbuild.spec.latency import LatencyField
from t2tbuild.spec.units import (
    BYTES_PATTERN,
    COUNT_PATTERN,
    UnitError,
    format_count,
    parse_bytes,
    parse_count,
    short_count,
)

LABELS = {"macs": "MACs", "params": "parameters", "activations": "bytes of activations"}
"""The label of each counted measure."""


class Bounds(Node):
    """Lower and upper bound of a measure."""

    max: Count | None = Field(default=None, examples=["5G"])
    """Upper bound. Give this, min or both."""
    min: Count | None = Field(default=None, examples=["4G"])
    """Lower bound, so that all candidates have a similar size."""

    @rule
    def _valid_bounds(self) -> Iterator[Violation]:
        if self.max is None and self.min is None:
            yield Violation("", "no limit is given", "write max: 5G, min: 4G, or both")
        elif self.max is not None and self.min is not None and self.min > self.max:
            message = f"min must not be above max, got {format_count(self.min)} and {format_count(self.max)}"
            yield Violation("min", message, "swap them")

    @property
    def summary(self) -> str:
        """Format for tables: 4.00G to 5.00G."""
        ends = [short_count(end) for end in (self.min, self.max) if end is not None]
        return " to ".join(ends) if len(ends) == 2 else ends[0] if self.min is None else f"at least {ends[0]}"

    def excess(self, spent: float) -> float:
        """Return by how much a cost is outside the bounds; zero or less is inside."""
        above = -float("inf") if self.max is None else spent - self.max
        below = -float("inf") if self.min is None else self.min - spent
        return max(above, below)


class ByteBounds(Bounds):
    """Lower and upper bound of a number of bytes."""

    max: Bytes | None = Field(default=None, examples=["150MB"])
    """Upper bound. Give this, min or both."""
    min: Bytes | None = Field(default=None, examples=["100MiB"])
    """Lower bound, so that all candidates have a similar size."""


def _by_max(node: type[Bounds], parse: Callable[[object], int]) -> BeforeValidator:
    """Return a validator that reads a number alone as the upper bound."""

    def read(value: object) -> object:
        if value is None or isinstance(value, dict | node):
            return value
        if isinstance(value, Bounds):
            return node(max=value.max, min=value.min)
        try:
            return node(max=parse(value))
        except UnitError as error:
            raise PydanticCustomError("units", "{message}", {"message": error.message, "hint": error.hint}) from None

    return BeforeValidator(read)


def _short(bounds: Bounds | None, info: SerializationInfo) -> Any:
    if bounds is None or info.context == FULL:
        return bounds
    return bounds.model_dump() if bounds.min is not None or bounds.max is None else format_count(bounds.max)


Limit = Annotated[
    Bounds, _by_max(Bounds, parse_count), Shorthand(number_or_text(COUNT_PATTERN)), PlainSerializer(_short)
]
"""An upper bound as a count, or a mapping of max and min."""
ByteLimit = Annotated[
    ByteBounds, _by_max(ByteBounds, parse_bytes), Shorthand(number_or_text(BYTES_PATTERN)), PlainSerializer(_short)
]
"""An upper bound as a number of bytes, or a mapping of max and min."""


class Budget(Node):
    """Limits on the cost of a candidate at its full width. A candidate over budget is never trained."""

    macs: Limit | None = Field(
        default=None, examples=["5G", {"max": "5G", "min": "4G"}], json_schema_extra=unit("multiply-adds per image")
    )
    """Largest number of multiply-adds of the forward pass of one image, or {max: 5G, min: 4G}."""
    params: Limit | None = Field(default=None, examples=["22M"], json_schema_extra=unit("parameters"))
    """Largest number of parameters, including frozen ones."""
    activations: ByteLimit | None = Field(default=None, examples=["150MB"], json_schema_extra=unit("bytes per image"))
    """Largest memory that the forward pass of one image in float32 saves for the backward pass."""
    latency: LatencyField | None = Field(
        default=None, examples=["20ms", {"max": "10ms", "runtime": "onnxruntime", "threads": 1}]
    )
    """Largest latency of a forward pass: a time, measured in torch on the device of the search, or a mapping that says
    how it is measured. A candidate over the limit is built and measured, once, but never trained. One that a latency
    model predicts far over it is not even measured."""

    @rule
    def _some_limit(self) -> Iterator[Violation]:
        if not self.limits and self.latency is None:
            yield Violation("", "the budget is empty", "write macs: 5G, params: 22M, or both")

    @property
    def summary(self) -> str:
        """Format for tables: 5.00G MACs, 22.0M parameters."""
        limits = [f"{bounds.summary} {LABELS[measure]}" for measure, bounds in self.limits.items()]
        return ", ".join(limits + ([self.latency.summary] if self.latency else []))

    @property
    def limits(self) -> Mapping[str, Bounds]:
        """Bounds by measure, for the measures that follow from the spec alone."""
        given = {"macs": self.macs, "params": self.params, "activations": self.activations}
        return {measure: bounds for measure, bounds in given.items() if bounds is not None}
