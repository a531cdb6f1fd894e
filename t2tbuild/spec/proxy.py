"""The proxy section of a search spec: a short training that ranks candidates instead of the full training."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from t2tbuild.spec.base import Count, ListAsTuple, Shorthand, Violation, rule, unit
from t2tbuild.spec.data import DataField, DigitsData, InMemory
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.renamed import RenamedFields

Steps = Annotated[int, Field(ge=1)]
Preset = Literal["quick", "standard", "thorough"]

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"images": 5_000, "rungs": (40, 100, 200)},
    "standard": {"images": 20_000, "rungs": (100, 300, 1000)},
    "thorough": {"images": 100_000, "rungs": (300, 1000, 4000), "evaluate_every": 50},
}
"""The fields that each preset sets. A field that the spec gives itself is kept."""

IMAGE_SIZES = {None: 64, "quick": 48, "standard": 64, "thorough": 96}
"""Side of the images by preset, for data without an image_size. A T2T tokenizer divides it by 16."""


class Proxy(RenamedFields):
    """Proxy training: small images, few steps, and on a CPU a narrow proxy model.

    The learning rate is constant after the warm-up, so that results at different rungs are comparable.
    """

    preset: Preset | None = Field(default=None, examples=["standard"])
    """How long the proxy trains. quick, standard and thorough set `images`, `rungs` and the image size for minutes, an
    hour or a night; fields that the spec gives itself are kept. `proxy: quick` is short for it. The forecast that a
    search prints before its first candidate is for your device and data."""
    data: DataField = Field(default=DigitsData(image_size=32), examples=[{"kind": "digits", "image_size": 32}])
    """Data that candidates are trained on: any that training reads. Images from files are decoded once, at
    `image_size` (if left out, 64 pixels, or those of the preset), into a cache that is mapped into memory; a GPU holds
    them where they fit into half of its free memory. `augment` then
    means random shifts and its `hflip`."""
    images: Count = Field(default=20_000, examples=["20K"], json_schema_extra=unit("images"))
    """Largest number of training images of data from files: a larger set is replaced by a stratified subset, sampled by
    the seed. Validation has a tenth as many at most (or 1,000), the test split as many."""
    cache: str | None = Field(default=None, min_length=1, examples=["/data/t2tbuild-cache"])
    """Folder of the decoded images, which several searches may share. Left out, images/ in the folder that the
    environment variable T2TBUILD_CACHE names, or cache/ in the run directory."""
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

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, value: Any) -> Any:
        """Fill in the fields of the preset that the spec does not give."""
        preset = value.get("preset") if isinstance(value, dict) else None
        return PRESETS[preset] | value if isinstance(preset, str) and preset in PRESETS else value

    def image_shape(self, model: ModelSpec) -> tuple[int, int]:
        """Return height and width of the training images: the data's, or those of the preset if the data have none.

        Without a preset, data in memory then have the model's image size.
        """
        size = self.data.image_size
        if size is None:
            if self.preset is None and isinstance(self.data, InMemory):
                return model.image.height, model.image.width
            size = IMAGE_SIZES[self.preset]
        return (size, size) if isinstance(size, int) else size

    def evaluation_steps(self, rung: int) -> tuple[int, ...]:
        """Return the steps of the evaluations that are averaged for the result at a rung."""
        below = max((one for one in self.rungs if one < rung), default=0)
        steps = (rung - back * self.evaluate_every for back in range(self.evaluations))
        return tuple(sorted(step for step in steps if step > below))


def _as_preset(value: object) -> object:
    return {"preset": value} if isinstance(value, str) else value


ProxyField = Annotated[
    Proxy, BeforeValidator(_as_preset), Shorthand({"type": "string", "enum": list(PRESETS), "description": "A preset."})
]
"""The proxy as a field of a spec; a preset's name alone is enough."""
