"""A search spec: a base, the space over fields of it, a budget and a proxy."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from t2tbuild.spec.base import Count, Listed, Node, Seconds, rule
from t2tbuild.spec.model import NAME_PATTERN
from t2tbuild.spec.train import DigitsData

Value = bool | int | float | str


class Choices(Node):
    """One of the listed values."""

    choices: Annotated[tuple[Value, ...], Listed] = Field(min_length=1, examples=[[2, 3, 4]])
    """The values to choose from."""

    @field_validator("choices")
    @classmethod
    def _no_repeats(cls, value: tuple[Value, ...]) -> tuple[Value, ...]:
        if len({(type(choice), choice) for choice in value}) < len(value):
            raise PydanticCustomError("repeats", "lists a choice twice", {})
        return value

    @property
    def values(self) -> tuple[Value, ...]:
        return self.choices


class Range(Node):
    """A whole number from `low` to `high`, both included, in steps."""

    low: int
    high: int
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.high < self.low:
            raise rule("high", f"high must not be below low, got {self.high} and {self.low}", "swap them")
        if (self.high - self.low) % self.step:
            last = self.high - (self.high - self.low) % self.step
            raise rule("high", f"high is not low plus a multiple of step {self.step}, got {self.high}", f"write {last}")
        if (self.high - self.low) // self.step >= 10_000:
            raise rule("step", "a range holds at most 10,000 values", "write a larger step")
        return self

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(range(self.low, self.high + 1, self.step))


class Fill(Node):
    """The depth, solved from the budget: a fraction of the deepest candidate that the budget admits.

    What is drawn is the fraction, so that every candidate lies within the budget by construction.
    """

    fill: Annotated[tuple[int | float, int | float], Listed] = Field(examples=[[0.7, 1.0]])
    """Lowest and highest fraction of the deepest."""
    low: int = Field(default=1, ge=1)
    """The shallowest candidate."""
    high: int = Field(default=64, ge=1, le=1000)
    """The deepest candidate, whatever the budget admits."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.fill
        if not 0 < low <= high <= 1:
            raise rule(
                "fill", f"fill must be two fractions, 0 < low <= high <= 1, got {low} and {high}", "write [0.7, 1.0]"
            )
        if self.high < self.low:
            raise rule("high", f"high must not be below low, got {self.high} and {self.low}", "swap them")
        return self


def _kind_of_dimension(value: Any) -> str | None:
    for key, kind in (("choices", Choices), ("fill", Fill), ("low", Range)):
        if isinstance(value, kind) or (isinstance(value, dict) and key in value):
            return key
    return None


Dimension = Annotated[
    Annotated[Choices, Tag("choices")] | Annotated[Fill, Tag("fill")] | Annotated[Range, Tag("low")],
    Discriminator(
        _kind_of_dimension,
        custom_error_type="dimension",
        custom_error_message="must be {choices: [...]}, {low: ..., high: ..., step: ...} or {fill: [..., ...]}",
    ),
]


class Budget(Node):
    """What a candidate may cost at its full size. No candidate over it is ever trained."""

    macs: Count | None = Field(default=None, examples=["5G"])
    """Most multiply-adds of one forward pass of one image."""
    params: Count | None = Field(default=None, examples=["22M"])
    """Most parameters, frozen ones included."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.macs is None and self.params is None:
            raise rule("", "the budget is empty", "write macs: 5G, params: 22M, or both")
        return self


class Proxy(Node):
    """The short training that stands in for the full one: small images, few steps, and on a CPU a thinner twin."""

    data: DigitsData = DigitsData()
    """What candidates are trained on."""
    width: Literal["auto", "full", "quarter"] = "auto"
    """What is trained: the candidate itself (full), its twin at a quarter of embed_dim and token_dim (quarter), or,
    by default, the twin on a CPU and the candidate on a GPU."""
    rungs: Annotated[tuple[int, ...], Listed] = Field(default=(40, 120, 280), min_length=1, max_length=8)
    """Training steps at which candidates are judged; the weak stop at a rung, the others go on to the next."""
    keep: int = Field(default=3, ge=2, le=100)
    """One in `keep` climbs from a rung to the next (successive halving's reduction factor)."""
    batch_size: int = Field(default=64, ge=1, le=65536)
    """Images in a training step."""
    lr: int | float = Field(default=1e-3, gt=0, le=10)
    """Learning rate: constant after the warm-up, so that rungs compare."""
    warmup_steps: int = Field(default=20, ge=0)
    """Length of the linear warm-up, in steps."""
    weight_decay: int | float = Field(default=0.05, ge=0, le=10)
    """Weight decay of matrices."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.rungs) != sorted(set(self.rungs)) or self.rungs[0] < 1:
            raise rule("rungs", f"rungs must rise from at least 1, got {list(self.rungs)}", "write [40, 120, 280]")
        return self


class Search(Node):
    """What is searched, within what, how, and for how long."""

    name: str = Field(default="search", pattern=NAME_PATTERN)
    """What the search is called in tables and folder names."""
    base: str = Field(examples=["t2t_vit_14"])
    """Name or path of the model spec that candidates start from; it is also the first candidate, if it fits."""
    budget: Budget
    """What a candidate may cost."""
    space: dict[str, Dimension] = Field(min_length=1)
    """Dotted fields of the base's model and what each may be. `*` stands for every stage that has the field, each on
    its own. num_heads follows embed_dim at the base's head_dim unless it is in the space itself."""
    proxy: Proxy = Proxy()
    """The short training that ranks candidates."""
    trials: int = Field(default=32, ge=1, le=1_000_000)
    """Candidates to train."""
    timeout: Seconds | None = None
    """Stop after this long, with what has been found by then."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of candidates, weights and order of samples."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        fills = [path for path, dimension in self.space.items() if isinstance(dimension, Fill)]
        if any(path != "backbone.depth" for path in fills):
            wrong = next(path for path in fills if path != "backbone.depth")
            raise rule(
                ("space", wrong), f"only backbone.depth can be solved from the budget, not {wrong}", "write choices"
            )
        return self
