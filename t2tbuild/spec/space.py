"""The space of a search: for each field, a list of choices, a range, or a value that is solved from the budget."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from t2tbuild.spec.base import ListAsTuple, Node, Violation, rule
from t2tbuild.spec.diagnostics.scalars import format_value

MAX_PATH = 100  # longest path, in characters, that is compared with others
DEPTH = "backbone.depth"
PER_BLOCK = ("backbone.num_heads", "backbone.mlp_ratio")
"""Fields that may have a value for each block."""

Value = Any
"""A value of a field in YAML: a number, a text, true, null, a mapping or a list."""

Fraction = Annotated[int, Field(gt=0, le=1)] | Annotated[float, Field(gt=0, le=1)]
Condition = dict[str, Value]


class _Sampled(Node):
    """Fields of every dimension that the sampler chooses."""

    when: Condition | None = Field(default=None, min_length=1, examples=[{"backbone.kind": "dense"}])
    """Condition: fields that precede this one in the space, each with its required value or a list of values. If it is
    not met, this field is not changed."""
    per: Literal["block"] | None = Field(default=None, examples=["block"])
    """Whether each block of the backbone has a value of its own; for num_heads and mlp_ratio."""


class Choices(_Sampled):
    """One of a list of values."""

    choices: Annotated[tuple[Value, ...], ListAsTuple] = Field(min_length=1, max_length=1000, examples=[[2, 3, 4]])
    """The values. A value may be null, a mapping or a list."""

    @rule
    def _no_choice_twice(self) -> Iterator[Violation]:
        seen: set[str] = set()
        for index, choice in enumerate(self.choices):
            text = json.dumps(choice, default=str)
            if text in seen:
                yield Violation(
                    ("choices", index), f"choices lists {format_value(choice)} twice", "remove one of the two"
                )
            seen.add(text)

    @property
    def values(self) -> Sequence[Value]:
        return self.choices


class Range(_Sampled):
    """A whole number from `low` to `high`, inclusive, in steps."""

    low: int = Field(examples=[256])
    """Smallest value."""
    high: int = Field(examples=[640])
    """Largest value: low plus a multiple of step."""
    step: int = Field(default=1, ge=1, examples=[64])
    """Difference of neighbouring values."""

    @rule
    def _range_rises_in_steps(self) -> Iterator[Violation]:
        yield from _in_steps(self)

    @property
    def values(self) -> Sequence[Value]:
        return range(self.low, self.high + 1, self.step)


class Fill(Node):
    """A number that is solved from the budget: a fraction of the largest value with which the candidate fits.

    Every candidate is then within the budget by construction. The cost must grow with the field; one that does not
    change it, such as backbone.drop_path, or lowers it, such as a patch_size of the tokenizer, is refused.
    """

    fill: Annotated[tuple[Fraction, Fraction], ListAsTuple] = Field(examples=[[0.7, 1.0]])
    """Smallest and largest fraction of the largest value that fits."""
    low: int = Field(default=1, ge=1, examples=[1])
    """Smallest value."""
    high: int = Field(default=64, ge=1, le=65536, examples=[64])
    """Largest value, even if the budget allows more."""
    step: int = Field(default=1, ge=1, examples=[1])
    """Difference of neighbouring values."""

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
        message = f"high must be low plus a multiple of step {given.step}, got {given.high}"
        yield Violation("high", message, f"write {last}")
    elif isinstance(given, Range) and (given.high - given.low) // given.step >= 10_000:
        yield Violation("step", "a range has at most 10,000 values", "write a larger step")


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
"""Dimensions by dotted field of the base's model."""


def check_space(space: Mapping[str, Dimension]) -> Iterator[Violation]:
    """Yield the violations of a space that do not depend on the base."""
    solved = [path for path, dimension in space.items() if isinstance(dimension, Fill)]
    for path in solved[1:]:
        message = f"only one field can be solved from the budget, and {solved[0]:.60} is already"
        yield Violation(("space", path), message, "write {choices: [...]}")
    for path in solved[:1]:
        if "*" in path:
            yield Violation(
                ("space", path),
                f"only one field can be solved from the budget, not several: {path:.60}",
                f"name one field, for example {DEPTH}",
            )
    before: list[str] = []
    for path, dimension in space.items():
        if not isinstance(dimension, Fill):
            yield from _check_dimension(path, dimension, space, before)
        before.append(path)


def _check_dimension(
    path: str, dimension: Choices | Range, space: Mapping[str, Dimension], before: list[str]
) -> Iterator[Violation]:
    if dimension.per == "block" and path not in PER_BLOCK:
        near = difflib.get_close_matches(path[:MAX_PATH], PER_BLOCK, n=1, cutoff=0.85)
        hint = f"did you mean {near[0]}?" if near else f"write per: block for {' or '.join(PER_BLOCK)}"
        yield Violation(("space", path, "per"), f"{path:.60} has no value for each block", hint)
    for field in dimension.when or ():
        later = [other for other in space if other not in before and other == field]
        if later:
            message = f"{field:.60} comes after {path:.60}, which depends on it"
            yield Violation(("space", path, "when", field), message, "write it first")
