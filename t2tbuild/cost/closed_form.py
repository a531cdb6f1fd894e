"""ModelSpec -> Cost without torch: the counts of fvcore as formulas, in microseconds.

N tokens, C channels, D of a linear map's output. Linear: N C D MACs, C D + D parameters. LayerNorm: 5 N C (fvcore's
rate), 2 C parameters. Convolution with a kernel of k: N k^2 C D MACs. Softmax attention: Q K^T and A V are N N C each.
Performer with M features: phi(q), phi(k), phi(k)^T v and phi(q) (phi(k)^T v) are N C M each, the denominator N M. A
scale of channels (ghost) is element-wise work and costs no MAC.
"""

from dataclasses import dataclass
from typing import assert_never

from t2tbuild.cost.model import Cost, PartCost
from t2tbuild.errors import CostError
from t2tbuild.spec.backbone import Backbone, BaseBackbone, DenseBackbone, PlainBackbone
from t2tbuild.spec.layout import layout
from t2tbuild.spec.model import AnyModel, ModelSpec, TimmModel
from t2tbuild.spec.tokenizer import (
    ConvTokenizer,
    PatchTokenizer,
    PerformerAttention,
    Stage,
    T2TTokenizer,
    TransformerAttention,
)


@dataclass(frozen=True)
class _Count:
    macs: int = 0
    trained: int = 0
    frozen: int = 0

    def __add__(self, other: "_Count") -> "_Count":
        return _Count(self.macs + other.macs, self.trained + other.trained, self.frozen + other.frozen)


def predict_cost(model: AnyModel) -> Cost:
    """The cost of `model`, equal to the integer to what `measure_cost` counts on the built module.

    Raises CostError for a model of timm, which only `measure_cost` can count.

    >>> from t2tbuild import load_spec
    >>> predict_cost(load_spec("t2t_vit_14").model).params
    21545550
    """
    if isinstance(model, TimmModel):
        raise CostError(f"{model.name} is a model of timm, which no formula covers; measure_cost counts it")
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
    backbone, tokens = model.backbone, model.tokens
    table = tokens * backbone.embed_dim
    learned = backbone.position == "learned"
    return [
        *_tokenizer(model),
        _Count(trained=backbone.embed_dim + table * learned, frozen=table * (not learned)),
        *_backbone(backbone, tokens),
        _norm(tokens, backbone.out_dim),
        _linear(1, backbone.out_dim, model.num_classes),
    ]


def _linear(tokens: int, in_dim: int, out_dim: int, bias: bool = True) -> _Count:
    return _Count(tokens * in_dim * out_dim, in_dim * out_dim + out_dim * bias)


def _norm(tokens: int, dim: int) -> _Count:
    return _Count(5 * tokens * dim, 2 * dim)


def _tokenizer(model: ModelSpec) -> list[_Count]:
    tokenizer, embed_dim = model.tokenizer, model.backbone.embed_dim
    match tokenizer:
        case T2TTokenizer():
            counts = []
            for stage, grid, width in tokenizer.token_attentions(model.image, model.in_chans):
                counts += [_Count(), _token_attention(stage, grid.tokens, width)]
            return [*counts, _Count(), _linear(model.tokens - 1, tokenizer.widths(model.in_chans)[-1], embed_dim)]
        case ConvTokenizer() | PatchTokenizer():
            rows = zip(tokenizer.windows, model.grids, tokenizer.channels_below(model.in_chans), strict=True)
            return [
                _linear(grid.tokens, channels * window.patch_size**2, window.token_dim or embed_dim)
                for window, grid, channels in rows
            ]
        case _:
            assert_never(tokenizer)


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


def _backbone(backbone: Backbone, tokens: int) -> list[_Count]:
    block_counts = _blocks(backbone, tokens)
    match backbone:
        case PlainBackbone():
            return [sum(block_counts, _Count())]
        case DenseBackbone(groups=groups, growth_rate=growth_rate):
            counts, left = [], iter(block_counts)
            for index, group in enumerate(groups):
                added = [next(left) + _linear(tokens, width, growth_rate) for width in group]
                counts.append(sum(added, _Count()))
                if index < len(groups) - 1:
                    width = group[-1] + growth_rate
                    counts.append(_linear(tokens, width, width // 2))
            return counts
        case _:
            assert_never(backbone)


def _blocks(backbone: BaseBackbone, tokens: int) -> list[_Count]:
    """One count for each block; blocks of one width and hidden width are counted once."""
    known: dict[tuple[int, int], _Count] = {}
    shapes = list(zip(backbone.widths, backbone.mlp_dims, strict=True))
    for width, hidden in shapes:
        if (width, hidden) not in known:
            known[width, hidden] = _block(backbone, tokens, width, hidden)
    return [known[shape] for shape in shapes]


def _block(backbone: BaseBackbone, tokens: int, dim: int, hidden: int) -> _Count:
    ghost, squeeze = backbone.ghost, backbone.squeeze_excite
    count = _norm(tokens, dim) + _norm(tokens, dim) + _linear(tokens, dim, dim) + _Count(2 * tokens * tokens * dim)
    if ghost and ghost.attention:
        half = dim // 2
        count += _linear(tokens, dim, 3 * half, backbone.qkv_bias) + _Count(trained=3 * half)
    else:
        count += _linear(tokens, dim, 3 * dim, backbone.qkv_bias)
    if squeeze:
        bottleneck = dim // squeeze.reduction
        count += _linear(1, dim, bottleneck, bias=False) + _linear(1, bottleneck, dim, bias=False)
    if ghost and ghost.mlp:
        count += _linear(tokens, dim, dim) + _Count(trained=hidden - dim)
    else:
        count += _linear(tokens, dim, hidden)
    return count + _linear(tokens, hidden, dim)
