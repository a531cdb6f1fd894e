"""A search spec: a base, the space over fields of it, a budget and a proxy."""

import difflib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from t2tbuild.spec.base import Broken, Count, Listed, Node, Seconds, advice, rule, unit
from t2tbuild.spec.data import DigitsData
from t2tbuild.spec.model import NAME_PATTERN

MAX_PATH = 100  # characters of a path that are compared with others
Value = bool | int | float | str


Fraction = Annotated[int, Field(gt=0, le=1)] | Annotated[float, Field(gt=0, le=1)]
Steps = Annotated[int, Field(ge=1)]


class Choices(Node):
    """One of the listed values."""

    choices: Annotated[tuple[Value, ...], Listed] = Field(min_length=1, max_length=1000, examples=[[2, 3, 4]])
    """The values to choose from."""

    @rule
    def _no_choice_twice(self) -> Iterator[Broken]:
        seen: set[tuple[type, Value]] = set()
        for index, choice in enumerate(self.choices):
            if (type(choice), choice) in seen:
                yield Broken(("choices", index), f"lists the choice {choice!r:.60} twice", "remove one of the two")
            seen.add((type(choice), choice))

    @property
    def values(self) -> tuple[Value, ...]:
        return self.choices


class Range(Node):
    """A whole number from `low` to `high`, both included, in steps."""

    low: int = Field(examples=[256])
    """The smallest value."""
    high: int = Field(examples=[640])
    """The largest value: low plus a multiple of step."""
    step: int = Field(default=1, ge=1, examples=[64])
    """The difference between neighbouring values."""

    @rule
    def _range_rises_in_steps(self) -> Iterator[Broken]:
        if self.high < self.low:
            yield Broken("high", f"high must not be below low, got {self.high} and {self.low}", "swap them")
        elif (self.high - self.low) % self.step:
            last = self.high - (self.high - self.low) % self.step
            told = f"high is not low plus a multiple of step {self.step}, got {self.high}"
            yield Broken("high", told, f"write {last}")
        elif (self.high - self.low) // self.step >= 10_000:
            yield Broken("step", "a range holds at most 10,000 values", "write a larger step")

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(range(self.low, self.high + 1, self.step))


class Fill(Node):
    """The depth, solved from the budget: a fraction of the deepest candidate that the budget admits.

    What is drawn is the fraction, so that every candidate lies within the budget by construction.
    """

    fill: Annotated[tuple[Fraction, Fraction], Listed] = Field(examples=[[0.7, 1.0]])
    """Lowest and highest fraction of the deepest."""
    low: int = Field(default=1, ge=1, examples=[1], json_schema_extra=unit("blocks"))
    """Depth of the shallowest candidate."""
    high: int = Field(default=64, ge=1, le=1000, examples=[64], json_schema_extra=unit("blocks"))
    """Depth of the deepest candidate, whatever the budget admits."""

    @rule
    def _fractions_rise(self) -> Iterator[Broken]:
        low, high = self.fill
        if high < low:
            yield Broken("fill", f"fill must rise, got {low} and {high}", f"write [{high}, {low}]")

    @rule
    def _high_above_low(self) -> Iterator[Broken]:
        if self.high < self.low:
            yield Broken("high", f"high must not be below low, got {self.high} and {self.low}", "swap them")


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


class Budget(Node):
    """What a candidate may cost at its full size. No candidate over it is ever trained."""

    macs: Count | None = Field(default=None, examples=["5G"], json_schema_extra=unit("multiply-adds an image"))
    """Most multiply-adds of one forward pass of one image. Give this, params or both."""
    params: Count | None = Field(default=None, examples=["22M"], json_schema_extra=unit("parameters"))
    """Most parameters, frozen ones included. Give this, macs or both."""

    @rule
    def _some_limit(self) -> Iterator[Broken]:
        if self.macs is None and self.params is None:
            yield Broken("", "the budget is empty", "write macs: 5G, params: 22M, or both")


class Proxy(Node):
    """The short training that stands in for the full one: small images, few steps, and on a CPU a thinner twin."""

    data: DigitsData = Field(default=DigitsData(), examples=[{"kind": "digits", "image_size": 64}])
    """What candidates are trained on."""
    width: Literal["auto", "full", "quarter"] = "auto"
    """What is trained: the candidate itself (full), its twin at a quarter of embed_dim and token_dim (quarter), or,
    by default, the twin on a CPU and the candidate on a GPU."""
    rungs: Annotated[tuple[Steps, ...], Listed] = Field(
        default=(40, 120, 280), min_length=1, max_length=8, examples=[[40, 120, 280]], json_schema_extra=unit("steps")
    )
    """Training steps at which candidates are judged; the weak stop at a rung, the others go on to the next."""
    keep: int = Field(default=3, ge=2, le=100, examples=[3])
    """One in `keep` climbs from a rung to the next (successive halving's reduction factor)."""
    batch_size: int = Field(default=64, ge=1, le=65536, examples=[64], json_schema_extra=unit("images"))
    """Images in a training step."""
    lr: int | float = Field(default=1e-3, gt=0, le=10, examples=[1e-3])
    """Learning rate: constant after the warm-up, so that rungs compare."""
    warmup_steps: int = Field(default=20, ge=0, examples=[20], json_schema_extra=unit("steps"))
    """Length of the linear warm-up, in steps."""
    weight_decay: int | float = Field(default=0.05, ge=0, le=10, examples=[0.05])
    """Weight decay of matrices."""

    @rule
    def _rungs_rise(self) -> Iterator[Broken]:
        if list(self.rungs) != sorted(set(self.rungs)):
            told = f"rungs must rise, got {list(self.rungs)}"
            yield Broken("rungs", told, "write [40, 120, 280]")

    @advice
    def _warm_up_ends(self) -> Iterator[Broken]:
        if self.warmup_steps >= self.rungs[-1]:
            told = f"the warm-up of {self.warmup_steps} steps never ends: the last rung is {self.rungs[-1]}"
            yield Broken("warmup_steps", told, f"write less than {self.rungs[-1]}")


class Search(Node):
    """What is searched, within what, how, and for how long."""

    name: str = Field(default="search", pattern=NAME_PATTERN, examples=["deep_narrow"])
    """What the search is called in tables and folder names: letters, digits, '.', '_' and '-', at most 64."""
    base: str = Field(examples=["t2t_vit_14"])
    """Name of the model spec that candidates start from, or its path seen from this file; the first candidate, if it
    fits."""
    budget: Budget = Field(examples=[{"macs": "5G"}])
    """What a candidate may cost."""
    space: dict[str, Dimension] = Field(min_length=1, examples=[{"backbone.depth": {"fill": [0.7, 1.0]}}])
    """Dotted fields of the base's model and what each may be. `*` stands for every stage that has the field, each on
    its own. num_heads follows embed_dim at the base's head_dim unless it is in the space itself."""
    proxy: Proxy = Field(default=Proxy(), examples=[{"rungs": [40, 120, 280]}])
    """The short training that ranks candidates."""
    trials: int = Field(default=32, ge=1, le=1_000_000, examples=[12], json_schema_extra=unit("candidates"))
    """Candidates to train."""
    timeout: Seconds | None = Field(default=None, examples=["5m"], json_schema_extra=unit("seconds"))
    """Stop after this long, with what has been found by then; left out, only trials ends the search."""
    seed: int = Field(default=0, ge=0, lt=2**32, examples=[0])
    """Seed of candidates, weights and order of samples."""

    @rule
    def _only_depth_is_solved(self) -> Iterator[Broken]:
        for path, dimension in self.space.items():
            if isinstance(dimension, Fill) and path != "backbone.depth":
                told = f"only backbone.depth can be solved from the budget, not {path:.60}"
                near = difflib.get_close_matches(path[:MAX_PATH], ["backbone.depth"], cutoff=0.85)
                meant = near or path.endswith("depth")
                hint = "did you mean 'backbone.depth'?" if meant else "write {choices: [...]}"
                yield Broken(("space", path), told, hint)
