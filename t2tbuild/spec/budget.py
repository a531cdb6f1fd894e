"""What a candidate may cost."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, SerializationInfo
from pydantic_core import PydanticCustomError

from t2tbuild.spec.base import FULL, Count, Node, Seconds, Short, Violation, rule, unit
from t2tbuild.spec.units import COUNT_PATTERN, UnitError, format_count, format_seconds, parse_count, short_count


class Bounds(Node):
    """The most and the least of a measure."""

    max: Count | None = Field(default=None, examples=["5G"])
    """The most. Give this, min or both."""
    min: Count | None = Field(default=None, examples=["4G"])
    """The least: a tolerance below the most, so that all candidates are of a size."""

    @rule
    def _bounds_hold_something(self) -> Iterator[Violation]:
        if self.max is None and self.min is None:
            yield Violation("", "no limit is given", "write max: 5G, min: 4G, or both")
        elif self.max is not None and self.min is not None and self.min > self.max:
            message = f"min must not be above max, got {format_count(self.min)} and {format_count(self.max)}"
            yield Violation("min", message, "swap them")

    @property
    def short(self) -> str:
        """In a word, for tables: 4.00G to 5.00G."""
        ends = [short_count(end) for end in (self.min, self.max) if end is not None]
        return " to ".join(ends) if len(ends) == 2 else ends[0] if self.min is None else f"at least {ends[0]}"

    def excess(self, spent: float) -> float:
        """By how much a cost lies outside the bounds; zero or less is within them."""
        above = -float("inf") if self.max is None else spent - self.max
        below = -float("inf") if self.min is None else self.min - spent
        return max(above, below)


def _by_max(value: object) -> object:
    """A count alone is the most."""
    if value is None or isinstance(value, dict | Bounds):
        return value
    try:
        return Bounds(max=parse_count(value))
    except UnitError as error:
        raise PydanticCustomError("units", "{message}", {"message": error.message, "hint": error.hint}) from None


def _short(bounds: Bounds | None, info: SerializationInfo) -> Any:
    if bounds is None or info.context == FULL:
        return bounds
    return bounds.model_dump() if bounds.min is not None or bounds.max is None else format_count(bounds.max)


_COUNT = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": COUNT_PATTERN}]}
Limit = Annotated[Bounds, BeforeValidator(_by_max), Short(_COUNT), PlainSerializer(_short)]
"""A count that is the most, or a mapping of the most and the least."""


class Budget(Node):
    """What a candidate may cost at its full size. No candidate over it is ever trained."""

    macs: Limit | None = Field(
        default=None, examples=["5G", {"max": "5G", "min": "4G"}], json_schema_extra=unit("multiply-adds an image")
    )
    """Most multiply-adds of one forward pass of one image, or {max: 5G, min: 4G}."""
    params: Limit | None = Field(default=None, examples=["22M"], json_schema_extra=unit("parameters"))
    """Most parameters, frozen ones included."""
    activations: Limit | None = Field(default=None, examples=["150M"], json_schema_extra=unit("bytes an image"))
    """Most bytes that the forward pass of one image in float32 keeps for the backward pass."""
    latency: Seconds | None = Field(default=None, examples=["20ms"], json_schema_extra=unit("seconds an image"))
    """Longest forward pass of one image, measured on the device that searches, median; a candidate that is slower is
    built and measured, but never trained."""

    @rule
    def _some_limit(self) -> Iterator[Violation]:
        if not self.limits and self.latency is None:
            yield Violation("", "the budget is empty", "write macs: 5G, params: 22M, or both")

    @property
    def short(self) -> str:
        """In a few words, for tables: 5.00G macs, 22.0M params."""
        message = [f"{bounds.short} {measure}" for measure, bounds in self.limits.items()]
        return ", ".join(message + ([f"{format_seconds(self.latency)} latency"] if self.latency else []))

    @property
    def limits(self) -> Mapping[str, Bounds]:
        """The bounds by measure, of those that follow from the spec alone."""
        given = {"macs": self.macs, "params": self.params, "activations": self.activations}
        return {measure: bounds for measure, bounds in given.items() if bounds is not None}
