"""Which optimiser updates the weights, and which weights at what rate."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.spec.base import KIND_WRITTEN, Listed, Named, Node, Short, Violation, by_kind, rule

Scale = Annotated[int, Field(ge=0, le=1000)] | Annotated[float, Field(ge=0, le=1000)]
Decay = Annotated[int, Field(ge=0, lt=1)] | Annotated[float, Field(ge=0, lt=1)]
ModelPart = Literal["tokenizer", "backbone", "head"]


class AdamW(Named):
    """AdamW (Loshchilov and Hutter, ICLR 2019), with which the paper trains on ImageNet."""

    model_config = KIND_WRITTEN

    kind: Literal["adamw"] = "adamw"
    """AdamW."""
    betas: Annotated[tuple[Decay, Decay], Listed] = Field(default=(0.9, 0.999), examples=[[0.9, 0.999]])
    """Decay of the running means of gradients and of their squares."""
    eps: int | float = Field(default=1e-8, gt=0, le=1, examples=[1e-8])
    """What is added to the root of the mean square."""


class Sgd(Named):
    """Stochastic gradient descent with momentum, with which the paper transfers to CIFAR."""

    model_config = KIND_WRITTEN

    kind: Literal["sgd"] = "sgd"
    """Gradient descent."""
    momentum: int | float = Field(default=0.9, ge=0, lt=1, examples=[0.9])
    """Share of the last update that is kept."""
    nesterov: bool = False
    """Whether the gradient is that of the place where momentum leads."""

    @rule
    def _nesterov_needs_momentum(self) -> Iterator[Violation]:
        if self.nesterov and not self.momentum:
            yield Violation(
                "nesterov", "nesterov looks ahead by the momentum, and momentum is 0", "write momentum: 0.9"
            )


OptimizerField = Annotated[
    Annotated[AdamW | Sgd, Field(discriminator="kind")],
    by_kind,
    Short({"enum": ["adamw", "sgd"]}),
]


class LrScale(Node):
    """By what each part's learning rate is multiplied, over the whole schedule, min_lr included."""

    tokenizer: Scale = Field(default=1, examples=[0.01])
    """Of the tokenizer."""
    backbone: Scale = Field(default=1, examples=[0.01])
    """Of the class token, the position embedding, the blocks and the last norm: all that is neither of the others."""
    head: Scale = Field(default=1, examples=[1])
    """Of the classifier."""
