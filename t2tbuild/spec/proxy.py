"""The proxy section of a search spec: a short training that ranks candidates instead of the full training."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.spec.base import ListAsTuple, Violation, rule, unit
from t2tbuild.spec.data import DigitsData, InMemoryField
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.renamed import RenamedFields

Steps = Annotated[int, Field(ge=1)]


class Proxy(RenamedFields):
    """Proxy training: small images, few steps, and on a CPU a narrow proxy model.

    The learning rate is constant after the warm-up, so that results at different rungs are comparable.
    """

    data: InMemoryField = Field(default=DigitsData(image_size=32), examples=[{"kind": "digits", "image_size": 32}])
    """Data that candidates are trained on; they are held in device memory."""
    width: Literal["auto", "full", "quarter"] = "auto"
    """Width of the trained model. full: the candidate itself. quarter: a narrow proxy with a quarter of embed_dim and
    token_dim. auto: quarter on a CPU, full on a GPU."""
    rungs: Annotated[tuple[Steps, ...], ListAsTuple] = Field(
        default=(40, 100, 200), min_length=1, max_length=8, examples=[[40, 100, 200]], json_schema_extra=unit("steps")
    )
    """Training steps at which candidates are compared. At each rung, good candidates are promoted and the others are
    pruned."""
    scheduler: Literal["asha", "hyperband", "never"] = "asha"
    """Which candidates are promoted from one rung to the next. asha: the best one in `reduction_factor` of those that
    reached it so far (asynchronous successive halving). hyperband: as asha, but candidates in turn skip the pruning at
    the lower rungs. never: nothing is pruned, all are promoted."""
    reduction_factor: int = Field(default=3, ge=2, le=100, examples=[3])
    """One in this many candidates is promoted from one rung to the next."""
    metric: Literal["accuracy", "loss"] = "loss"
    """What candidates are ranked by on the validation split: the accuracy, or the logarithm of the cross-entropy, which
    also separates candidates of equal accuracy."""
    evaluations: int = Field(default=6, ge=1, le=100, examples=[6])
    """Largest number of evaluations that are averaged for the result at a rung. The last is at the rung itself, all
    are after the rung below."""
    evaluate_every: int = Field(default=20, ge=1, le=100_000, examples=[20], json_schema_extra=unit("steps"))
    """Steps between these evaluations."""
    ema: int | float | None = Field(default=0.98, gt=0, lt=1, examples=[0.98])
    """Decay of the averaged weights (EMA), which are evaluated in place of the trained ones; null for none."""
    batch_size: int = Field(default=64, ge=1, le=65536, examples=[64], json_schema_extra=unit("images"))
    """Images of a training step."""
    lr: int | float = Field(default=1e-3, gt=0, le=10, examples=[1e-3])
    """Learning rate after the warm-up; it is constant, so that results at different rungs are comparable."""
    lr_depth: int | None = Field(default=None, ge=1, le=1000, examples=[14], json_schema_extra=unit("blocks"))
    """Depth that `lr` is meant for; another depth has the rate lr * sqrt(lr_depth / depth). Left out, all have lr."""
    warmup_steps: int = Field(default=20, ge=0, examples=[20], json_schema_extra=unit("steps"))
    """Length of the linear warm-up."""
    weight_decay: int | float = Field(default=0.05, ge=0, le=10, examples=[0.05])
    """Weight decay of matrices."""
    seeds: int = Field(default=3, ge=1, le=100, examples=[3])
    """Number of seeds that the base is trained with before any candidate. Their spread at a rung is the seed noise."""

    @rule
    def _rungs_rise(self) -> Iterator[Violation]:
        if list(self.rungs) != sorted(set(self.rungs)):
            message = f"rungs must rise, got {list(self.rungs)}"
            yield Violation("rungs", message, f"write {sorted(set(self.rungs))}")

    def image_shape(self, model: ModelSpec) -> tuple[int, int]:
        """Return height and width of the training images: the data's, or the model's if the data have none."""
        size = self.data.image_size
        if size is None:
            return model.image.height, model.image.width
        return (size, size) if isinstance(size, int) else size

    def evaluation_steps(self, rung: int) -> tuple[int, ...]:
        """Return the steps of the evaluations that are averaged for the result at a rung."""
        below = max((one for one in self.rungs if one < rung), default=0)
        steps = (rung - back * self.evaluate_every for back in range(self.evaluations))
        return tuple(sorted(step for step in steps if step > below))
