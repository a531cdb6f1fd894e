"""The short training that stands in for the full one, and how it is judged."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.spec.base import Listed, Node, Violation, lint, rule, unit
from t2tbuild.spec.data import DigitsData, InMemoryField
from t2tbuild.spec.model import ModelSpec

Steps = Annotated[int, Field(ge=1)]


class Proxy(Node):
    """Small images, few steps, and on a CPU a thinner twin; warm-up, then a constant rate, so that rungs compare."""

    data: InMemoryField = Field(default=DigitsData(image_size=32), examples=[{"kind": "digits", "image_size": 32}])
    """What candidates are trained on: data that lie on the device."""
    width: Literal["auto", "full", "quarter"] = "auto"
    """What is trained: the candidate itself (full), its twin at a quarter of embed_dim and token_dim (quarter), or,
    by default, the twin on a CPU and the candidate on a GPU."""
    rungs: Annotated[tuple[Steps, ...], Listed] = Field(
        default=(40, 100, 200), min_length=1, max_length=8, examples=[[40, 100, 200]], json_schema_extra=unit("steps")
    )
    """Training steps at which candidates are judged; the weak stop at a rung, the others go on to the next."""
    stop: Literal["asha", "hyperband", "never"] = "asha"
    """Who climbs on from a rung: one in `keep` of those that came so far (asynchronous successive halving); the same,
    but for candidates that take turns in being spared the lower rungs (Hyperband); or all."""
    keep: int = Field(default=3, ge=2, le=100, examples=[3])
    """One in `keep` climbs from a rung to the next (successive halving's reduction factor)."""
    metric: Literal["accuracy", "loss"] = "loss"
    """What candidates are judged by on the validation split: the accuracy, or the logarithm of the cross-entropy, which
    tells apart what has the same accuracy."""
    evaluations: int = Field(default=6, ge=1, le=100, examples=[6])
    """Most evaluations whose mean is a rung's result: the last is at the rung itself, and all are after the rung
    below."""
    evaluate_every: int = Field(default=20, ge=1, le=100_000, examples=[20], json_schema_extra=unit("steps"))
    """Steps between those evaluations."""
    ema: int | float | None = Field(default=0.98, gt=0, lt=1, examples=[0.98])
    """Decay of a running average of the weights, which is then what is judged; null: none."""
    batch_size: int = Field(default=64, ge=1, le=65536, examples=[64], json_schema_extra=unit("images"))
    """Images in a training step."""
    lr: int | float = Field(default=1e-3, gt=0, le=10, examples=[1e-3])
    """Learning rate: constant after the warm-up, so that rungs compare."""
    lr_depth: int | None = Field(default=None, ge=1, le=1000, examples=[14], json_schema_extra=unit("blocks"))
    """Depth that `lr` is meant for; the rate of another depth is lr * sqrt(lr_depth / depth). Left out, all have lr."""
    warmup_steps: int = Field(default=20, ge=0, examples=[20], json_schema_extra=unit("steps"))
    """Length of the linear warm-up, in steps."""
    weight_decay: int | float = Field(default=0.05, ge=0, le=10, examples=[0.05])
    """Weight decay of matrices."""
    seeds: int = Field(default=3, ge=1, le=100, examples=[3])
    """Seeds that the base is trained with before any candidate: their spread at a rung is the noise floor."""

    @rule
    def _rungs_rise(self) -> Iterator[Violation]:
        if list(self.rungs) != sorted(set(self.rungs)):
            message = f"rungs must rise, got {list(self.rungs)}"
            yield Violation("rungs", message, "write [40, 100, 200]")

    @lint
    def _warm_up_ends(self) -> Iterator[Violation]:
        if self.warmup_steps >= self.rungs[-1]:
            message = f"the warm-up of {self.warmup_steps} steps never ends: the last rung is {self.rungs[-1]}"
            yield Violation("warmup_steps", message, f"write less than {self.rungs[-1]}")

    def side(self, model: ModelSpec) -> tuple[int, int]:
        """Height and width of the images that are trained on: the data's, else the model's own."""
        size = self.data.image_size
        if size is None:
            return model.image.height, model.image.width
        return (size, size) if isinstance(size, int) else size

    def judged_at(self, rung: int) -> tuple[int, ...]:
        """The steps whose evaluations make up a rung's result: those after the rung below."""
        below = max((one for one in self.rungs if one < rung), default=0)
        steps = (rung - back * self.evaluate_every for back in range(self.evaluations))
        return tuple(sorted(step for step in steps if step > below))
