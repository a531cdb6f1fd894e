"""The latency limit of a search: how a candidate is measured, and the limit."""

import shlex
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, SerializationInfo
from pydantic_core import PydanticCustomError

from t2tbuild.spec.base import FULL, Node, Seconds, Shorthand, Violation, number_or_text, rule, unit
from t2tbuild.spec.units import TIME_PATTERN, UnitError, format_seconds, parse_seconds, plural


class LatencyLimit(Node):
    """The largest latency of a candidate, and the runtime that serves it. A time alone is `max` in torch."""

    max: Seconds = Field(examples=["10ms"], json_schema_extra=unit("seconds"))
    """Largest time of one forward pass, as the median of interleaved rounds with the base."""
    runtime: Literal["torch", "onnxruntime"] = "torch"
    """What runs the model, in float32. torch: as built, on the device of the search. onnxruntime: exported, on the
    CPU."""
    threads: int | None = Field(default=None, ge=1, le=1024, examples=[1], json_schema_extra=unit("threads"))
    """CPU threads of the runtime; left out, as many as torch has where the search starts."""
    batch: int = Field(default=1, ge=1, le=65_536, examples=[1], json_schema_extra=unit("images"))
    """Images of one forward pass."""
    command: str | None = Field(default=None, min_length=1, max_length=4096, examples=["./measure.sh"])
    """A command of yours that measures on another device, such as a phone. It gets the path of an ONNX file as its last
    argument and prints milliseconds on its last line. It runs in the working directory, without a shell, and only with
    your consent: give it by --latency-command, or add --allow-command."""
    timeout: Seconds = Field(default=300.0, examples=["5m"], json_schema_extra=unit("seconds"))
    """Longest time of one call of `command`."""

    @rule
    def _command_measures_alone(self) -> Iterator[Violation]:
        others = {"runtime": "torch", "threads": None, "batch": 1}
        for name, default in others.items():
            if self.command is not None and getattr(self, name) != default:
                yield Violation(name, f"{name} has no effect beside command, which measures by itself", "remove it")

    @rule
    def _command_has_words(self) -> Iterator[Violation]:
        if self.command is None:
            return
        try:
            is_empty = not shlex.split(self.command)
        except ValueError as error:
            yield Violation("command", f"cannot be split into words: {error}", "close the quotation marks")
            return
        if is_empty:
            yield Violation("command", "is empty", "write for example ./measure.sh")

    @property
    def method(self) -> str:
        """How it is measured, for messages: onnxruntime, 1 thread, batch 1."""
        if self.command is not None:
            return self.command
        threads = [plural(self.threads, "thread")] if self.threads else []
        return ", ".join([self.runtime, *threads, f"batch {self.batch}"])

    @property
    def summary(self) -> str:
        """Format for tables: 10ms latency."""
        text = f"{format_seconds(self.max)} latency"
        return text if _is_plain(self) else f"{text} ({self.method})"


def _is_plain(limit: LatencyLimit) -> bool:
    """Whether all but the limit itself has its default."""
    fields = type(limit).model_fields
    return all(getattr(limit, name) == fields[name].default for name in fields if name != "max")


def _by_max(value: object) -> object:
    """Read a time alone as the limit."""
    if value is None or isinstance(value, dict | LatencyLimit):
        return value
    try:
        return LatencyLimit(max=parse_seconds(value))
    except UnitError as error:
        raise PydanticCustomError("units", "{message}", {"message": error.message, "hint": error.hint}) from None


def _short(limit: LatencyLimit | None, info: SerializationInfo) -> Any:
    if limit is None or info.context == FULL:
        return limit
    return format_seconds(limit.max) if _is_plain(limit) else limit.model_dump()


LatencyField = Annotated[
    LatencyLimit, BeforeValidator(_by_max), Shorthand(number_or_text(TIME_PATTERN)), PlainSerializer(_short)
]
"""A latency limit as a time, or a mapping of the time and how it is measured."""
