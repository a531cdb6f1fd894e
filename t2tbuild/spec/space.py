"""What a searched field may be: one of a list, a number in steps, or what the budget leaves."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from t2tbuild.spec.base import Listed, Node, Violation, rule
from t2tbuild.spec.diagnostics.scalars import shown

MAX_PATH = 100  # characters of a path that are compared with others
DEPTH = "backbone.depth"
PER_BLOCK = ("backbone.num_heads", "backbone.mlp_ratio")
"""The fields that may have a value for each block."""

Value = Any
"""A value of a field as YAML has it: a number, a word, true, null, or a whole mapping or list."""

Fraction = Annotated[int, Field(gt=0, le=1)] | Annotated[float, Field(gt=0, le=1)]
Condition = dict[str, Value]


class _Drawn(Node):
    """What every dimension that is drawn freely has."""

    when: Condition | None = Field(default=None, min_length=1, examples=[{"backbone.kind": "dense"}])
    """Fields of the candidate, set before this one, and the value that each must have, or a list of such values;
    otherwise this field is left as it is."""
    per: Literal["block"] | None = Field(default=None, examples=["block"])
    """Draw a value for each block of the backbone on its own; for num_heads and mlp_ratio."""


class Choices(_Drawn):
    """One of the listed values."""

    choices: Annotated[tuple[Value, ...], Listed] = Field(min_length=1, max_length=1000, examples=[[2, 3, 4]])
    """The values to choose from; a value may be null, or a whole mapping or list."""

    @rule
    def _no_choice_twice(self) -> Iterator[Violation]:
        seen: set[str] = set()
        for index, choice in enumerate(self.choices):
            text = json.dumps(choice, default=str)
            if text in seen:
                yield Violation(("choices", index), f"lists the choice {shown(choice)} twice", "remove one of the two")
            seen.add(text)

    @property
    def values(self) -> Sequence[Value]:
        return self.choices


class Range(_Drawn):
    """A whole number from `low` to `high`, both included, in steps."""

    low: int = Field(examples=[256])
    """The smallest value."""
    high: int = Field(examples=[640])
    """The largest value: low plus a multiple of step."""
    step: int = Field(default=1, ge=1, examples=[64])
    """The difference between neighbouring values."""

    @rule
    def _range_rises_in_steps(self) -> Iterator[Violation]:
        yield from _in_steps(self)

    @property
    def values(self) -> Sequence[Value]:
        return range(self.low, self.high + 1, self.step)


class Fill(Node):
    """A number that is solved from the budget: a fraction of the largest at which the rest of the candidate fits.

    So every candidate lies within the budget by construction. The field must add cost as it grows.
    """

    fill: Annotated[tuple[Fraction, Fraction], Listed] = Field(examples=[[0.7, 1.0]])
    """Lowest and highest fraction of the largest."""
    low: int = Field(default=1, ge=1, examples=[1])
    """The smallest value."""
    high: int = Field(default=64, ge=1, le=65536, examples=[64])
    """The largest value, whatever the budget admits."""
    step: int = Field(default=1, ge=1, examples=[1])
    """The difference between neighbouring values."""

    @rule
    def _fractions_rise(self) -> Iterator[Violation]:
        low, high = self.fill
        if high < low:
            yield Violation("fill", f"fill must rise, got {low} and {high}", f"write [{high}, {low}]")

    @rule
    def _range_rises_in_steps(self) -> Iterator[Violation]:
        yield from _in_steps(self)

    @property
    def values(self) -> Sequence[int]:
        return range(self.low, self.high + 1, self.step)


def _in_steps(given: Range | Fill) -> Iterator[Violation]:
    if given.high < given.low:
        yield Violation("high", f"high must not be below low, got {given.high} and {given.low}", "swap them")
    elif (given.high - given.low) % given.step:
        last = given.high - (given.high - given.low) % given.step
        message = f"high is not low plus a multiple of step {given.step}, got {given.high}"
        yield Violation("high", message, f"write {last}")
    elif isinstance(given, Range) and (given.high - given.low) // given.step >= 10_000:
        yield Violation("step", "a range holds at most 10,000 values", "write a larger step")


def _kind_of_dimension(value: Any) -> str | None:
    for key, kind in (("choices", Choices), ("fill", Fill), ("low", Range)):
        if isinstance(value, kind) or (isinstance(value, dict) and key in value):
            return kind.__name__
    return None


Dimension = Annotated[
    Annotated[Choices, Tag("Choices")] | Annotated[Range, Tag("Range")] | Annotated[Fill, Tag("Fill")],
    Discriminator(
        _kind_of_dimension,
        custom_error_type="dimension",
        custom_error_message="must be {choices: [...]}, {low: ..., high: ..., step: ...} or {fill: [..., ...]}",
    ),
]

SpaceField = dict[str, Dimension]
"""Dotted fields of the base's model and what each may be."""


def broken_space(space: Mapping[str, Dimension]) -> Iterator[Violation]:
    """What does not go together in a space, whatever the base."""
    solved = [path for path, dimension in space.items() if isinstance(dimension, Fill)]
    for path in solved[1:]:
        message = f"one field alone can be solved from the budget, and {solved[0]:.60} is already"
        yield Violation(("space", path), message, "write {choices: [...]}")
    for path in solved[:1]:
        if "*" in path:
            yield Violation(
                ("space", path), f"one field is solved from the budget, not several: {path:.60}", f"e.g. {DEPTH}"
            )
    before: list[str] = []
    for path, dimension in space.items():
        if not isinstance(dimension, Fill):
            yield from _broken_dimension(path, dimension, space, before)
        before.append(path)


def _broken_dimension(
    path: str, dimension: Choices | Range, space: Mapping[str, Dimension], before: list[str]
) -> Iterator[Violation]:
    if dimension.per == "block" and path not in PER_BLOCK:
        near = difflib.get_close_matches(path[:MAX_PATH], PER_BLOCK, n=1, cutoff=0.85)
        hint = f"did you mean {near[0]}?" if near else f"write per: block for {' or '.join(PER_BLOCK)}"
        yield Violation(("space", path, "per"), f"{path:.60} has no value for each block", hint)
    for asked in dimension.when or ():
        later = [other for other in space if other not in before and other == asked]
        if later:
            message = f"{asked:.60} is drawn after {path:.60}, which depends on it"
            yield Violation(("space", path, "when", asked), message, "write it first")
