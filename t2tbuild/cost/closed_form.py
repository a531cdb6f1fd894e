"""ModelSpec -> Cost without torch: the counts of fvcore as formulas, in microseconds.

N tokens, C channels, D of a linear map's output. Linear: N C D MACs, C D + D parameters. LayerNorm: 5 N C (fvcore's
rate), 2 C parameters. Softmax attention: Q K^T and A V are N N C each. Performer with M features: phi(q), phi(k),
phi(k)^T v and phi(q) (phi(k)^T v) are N C M each, the denominator N M.
"""

from dataclasses import dataclass
from typing import assert_never

from t2tbuild.cost.model import Cost, PartCost
from t2tbuild.spec.layout import layout
from t2tbuild.spec.model import ModelSpec, PerformerAttention, PlainBackbone, Stage, TransformerAttention


@dataclass(frozen=True)
class _Count:
    macs: int = 0
    trained: int = 0
    frozen: int = 0

    def __add__(self, other: "_Count") -> "_Count":
        return _Count(self.macs + other.macs, self.trained + other.trained, self.frozen + other.frozen)


def predict_cost(model: ModelSpec) -> Cost:
    """The cost of `model`, equal to the integer to what `measure_cost` counts on the built module.

    >>> from t2tbuild import load_spec
    >>> predict_cost(load_spec("t2t_vit_14").model).params
    21545550
    """
    counts = _counts(model)
    rows = zip(layout(model), counts, strict=True)
    parts = tuple(
        PartCost(part.name, part.grid, part.tokens, part.channels, count.trained + count.frozen, count.macs)
        for part, count in rows
    )
    total = sum(counts, _Count())
    return Cost(total.trained + total.frozen, total.trained, total.macs, parts)


def _counts(model: ModelSpec) -> list[_Count]:
    """One count for each part of `layout(model)`."""
    counts = []
    for stage, grid, width in model.token_attentions:
        counts += [_Count(), _token_attention(stage, grid.tokens, width)]
    backbone, tokens = model.backbone, model.tokens
    table = tokens * backbone.embed_dim
    learned = backbone.position == "learned"
    return [
        *counts,
        _Count(),
        _linear(tokens - 1, model.tokenizer.widths(model.in_chans)[-1], backbone.embed_dim),
        _Count(trained=backbone.embed_dim + table * learned, frozen=table * (not learned)),
        _blocks(backbone, tokens),
        _norm(tokens, backbone.embed_dim),
        _linear(1, backbone.embed_dim, model.num_classes),
    ]


def _linear(tokens: int, in_dim: int, out_dim: int, bias: bool = True) -> _Count:
    return _Count(tokens * in_dim * out_dim, in_dim * out_dim + out_dim * bias)


def _norm(tokens: int, dim: int) -> _Count:
    return _Count(5 * tokens * dim, 2 * dim)


def _token_attention(stage: Stage, tokens: int, in_dim: int) -> _Count:
    assert stage.token_dim is not None and stage.attention is not None
    dim = stage.token_dim
    around = _norm(tokens, in_dim) + _linear(tokens, dim, dim) + _norm(tokens, dim)
    mlp = _linear(tokens, dim, dim) + _linear(tokens, dim, dim)
    match stage.attention:
        case TransformerAttention():
            attend = _linear(tokens, in_dim, 3 * dim, bias=False) + _Count(2 * tokens * tokens * dim)
        case PerformerAttention(kernel_ratio=kernel_ratio):
            features = int(dim * kernel_ratio)
            attend = _linear(tokens, in_dim, 3 * dim)
            attend += _Count(4 * tokens * dim * features + tokens * features, frozen=features * dim)
        case _:
            assert_never(stage.attention)
    return around + attend + mlp


def _blocks(backbone: PlainBackbone, tokens: int) -> _Count:
    dim, total = backbone.embed_dim, _Count()
    attention = _linear(tokens, dim, 3 * dim, backbone.qkv_bias) + _linear(tokens, dim, dim)
    same = _norm(tokens, dim) + attention + _Count(2 * tokens * tokens * dim) + _norm(tokens, dim)
    for hidden in backbone.mlp_dims:
        total += same + _linear(tokens, dim, hidden) + _linear(tokens, hidden, dim)
    return total
