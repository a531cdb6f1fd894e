"""The optimiser, and the learning rates of the model's parts."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.spec.base import (
    KIND_REQUIRED,
    ListAsTuple,
    Node,
    Shorthand,
    ShorthandNode,
    Violation,
    kind_shorthand,
    rule,
)

Scale = Annotated[int, Field(ge=0, le=1000)] | Annotated[float, Field(ge=0, le=1000)]
Decay = Annotated[int, Field(ge=0, lt=1)] | Annotated[float, Field(ge=0, lt=1)]
ModelPart = Literal["tokenizer", "backbone", "head"]


class AdamW(ShorthandNode):
    """AdamW (Loshchilov and Hutter, ICLR 2019); the paper uses it on ImageNet."""

    model_config = KIND_REQUIRED

    kind: Literal["adamw"] = "adamw"
    """AdamW."""
    betas: Annotated[tuple[Decay, Decay], ListAsTuple] = Field(default=(0.9, 0.999), examples=[[0.9, 0.999]])
    """Decay of the running averages of the gradient and its square."""
    eps: int | float = Field(default=1e-8, gt=0, le=1, examples=[1e-8])
    """Term that is added to the denominator for numerical stability."""


class Sgd(ShorthandNode):
    """Stochastic gradient descent with momentum; the paper uses it for the transfer to CIFAR."""

    model_config = KIND_REQUIRED

    kind: Literal["sgd"] = "sgd"
    """Stochastic gradient descent."""
    momentum: int | float = Field(default=0.9, ge=0, lt=1, examples=[0.9])
    """Momentum factor."""
    nesterov: bool = False
    """Whether to use Nesterov momentum."""

    @rule
    def _nesterov_needs_momentum(self) -> Iterator[Violation]:
        if self.nesterov and not self.momentum:
            yield Violation("nesterov", "nesterov needs a momentum above 0, got 0", "write momentum: 0.9")


OptimizerField = Annotated[
    Annotated[AdamW | Sgd, Field(discriminator="kind")],
    kind_shorthand,
    Shorthand({"enum": ["adamw", "sgd"]}),
]


class LrScale(Node):
    """Factors of the learning rate of each part, over the whole schedule including min_lr."""

    tokenizer: Scale = Field(default=1, examples=[0.01])
    """Factor of the tokenizer."""
    backbone: Scale = Field(default=1, examples=[0.01])
    """Factor of the class token, the position embedding, the blocks and the last norm."""
    head: Scale = Field(default=1, examples=[1])
    """Factor of the classifier."""
