"""The result of a count, whoever counted."""

from dataclasses import dataclass

from t2tbuild.parts import Grid

CONVENTION = (
    "MACs as fvcore: multiply-adds of linear, conv, matmul, QK^T, AV; LayerNorm 5 an element; softmax, GELU, exp 0"
)


@dataclass(frozen=True)
class PartCost:
    """The cost of one part of a model; `grid`, `tokens` and `channels` are those of what it gives out, where known."""

    name: str
    grid: Grid | None
    tokens: int | None
    channels: int | None
    params: int
    macs: int


@dataclass(frozen=True)
class Cost:
    """Parameters (all, and the trained ones) and multiply-adds of one image's forward pass, total and per part."""

    params: int
    trainable_params: int
    macs: int
    parts: tuple[PartCost, ...]
