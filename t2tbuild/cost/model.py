"""The result of a count, whoever counted."""

from dataclasses import dataclass

from t2tbuild.spec.model import Grid

CONVENTION = (
    "1 MAC = one multiply-add of a linear, convolution, matmul or einsum, QK^T and AV included; "
    "LayerNorm 5 per element (fvcore's rate); softmax, GELU and exp 0; one image, forward pass"
)


@dataclass(frozen=True)
class PartCost:
    """The cost of one part of a model; `grid`, `tokens` and `channels` are those of what it gives out."""

    name: str
    grid: Grid | None
    tokens: int
    channels: int
    params: int
    macs: int


@dataclass(frozen=True)
class Cost:
    """Parameters (all, and those that are trained) and multiply-adds of one image's forward pass, total and per part."""

    params: int
    trainable_params: int
    macs: int
    parts: tuple[PartCost, ...]
