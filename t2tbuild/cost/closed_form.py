"""ModelSpec -> Cost without torch: fvcore's counts as formulas, computed in microseconds.

N tokens, C channels, D output channels of a linear layer. Linear: N C D MACs, C D + D parameters. LayerNorm: 5 N C
(fvcore's rate), 2 C parameters. Convolution with a kernel of k: N k^2 C D MACs. Softmax attention: Q K^T and A V are
N N C each.
Performer with M features: phi(q), phi(k), phi(k)^T v and phi(q) (phi(k)^T v) are N C M each, the denominator N M.
Scaling channels (ghost) is element-wise and costs no MACs.

Each function returns the leaves of one module in the module's own order, so that the counter finds the same rows.
"""

import functools
from typing import assert_never

from t2tbuild.cost.model import PRODUCTS, Cost, Counted, Leaf, total_cost
from t2tbuild.errors import CostError
from t2tbuild.layout import Grid
from t2tbuild.spec.backbone import Backbone, BaseBackbone, DenseBackbone, Ghost, PlainBackbone, SqueezeExcite
from t2tbuild.spec.model import AnyModel, ModelSpec, TimmModel
from t2tbuild.spec.model_parts import layout
from t2tbuild.spec.tokenizer import (
    ConvTokenizer,
    PatchTokenizer,
    PerformerAttention,
    T2TTokenizer,
    TokenAttention,
    TransformerAttention,
)

NOTHING = Counted.of()
cached = functools.lru_cache(maxsize=2**14)  # the candidates of a search share most of their shapes


def predict_cost(model: AnyModel, depth: int = 1) -> Cost:
    """Return the cost of `model`. Each row equals the count of `measure_cost` on the built module exactly.

    `depth` is the number of levels of rows: 1 for the parts, 2 for their modules as well, and so on. Raises CostError
    for a timm model, which only `measure_cost` can count.

    >>> from t2tbuild import load_spec
    >>> predict_cost(load_spec("t2t_vit_14").model).params
    21545550
    """
    if isinstance(model, TimmModel):
        raise CostError(
            f"{model.name} is a timm model, which the closed form does not cover; count it with measure_cost"
        )
    grids = model.grids
    return total_cost(layout(model, grids), _counts(model, grids), depth)


def _counts(model: ModelSpec, grids: tuple[Grid, ...]) -> list[list[Counted]]:
    """Return, for each part of `layout(model)`, one count per module."""
    backbone = model.backbone
    tokens, embed_dim = model.prefix_tokens + grids[-1].tokens, backbone.embed_dim
    learned = backbone.position == "learned"
    table = Leaf("", 0, tokens * embed_dim * learned, tokens * embed_dim * (not learned))
    return [
        *_tokenizer(model, grids),
        [*[Counted.of(Leaf("", 0, embed_dim))] * model.prefix_tokens, Counted.of(table)],
        *_backbone(backbone, tokens),
        [Counted.of(_norm("", tokens, backbone.out_dim))],
        *[[Counted.of(_linear("", 1, backbone.out_dim, model.num_classes))]] * model.prefix_tokens,
    ]


def _linear(name: str, tokens: int, in_dim: int, out_dim: int, bias: bool = True) -> Leaf:
    return Leaf(name, tokens * in_dim * out_dim, in_dim * out_dim + out_dim * bias)


def _norm(name: str, tokens: int, dim: int) -> Leaf:
    return Leaf(name, 5 * tokens * dim, 2 * dim)


def _tokenizer(model: ModelSpec, grids: tuple[Grid, ...]) -> list[list[Counted]]:
    tokenizer, embed_dim = model.tokenizer, model.backbone.embed_dim
    match tokenizer:
        case T2TTokenizer():
            counts, widths = [], tokenizer.widths(model.in_chans)
            for stage, grid, width in zip(tokenizer.stages[:-1], grids, widths, strict=False):
                dim = stage.token_dim or 0
                attention = _token_attention(grid.tokens, width, dim, _features(stage.attention, dim))
                counts += [[NOTHING], [attention]]
            return [*counts, [NOTHING], [Counted.of(_linear("", grids[-1].tokens, widths[-1], embed_dim))]]
        case ConvTokenizer() | PatchTokenizer():
            rows = zip(tokenizer.windows, grids, tokenizer.channels_below(model.in_chans), strict=True)
            return [
                [Counted.of(_linear("", grid.tokens, channels * window.patch_size**2, window.token_dim or embed_dim))]
                for window, grid, channels in rows
            ]
        case _:
            assert_never(tokenizer)


def _features(attention: TokenAttention | None, dim: int) -> int | None:
    """Return the number of random features of a Performer, None for a transformer."""
    match attention:
        case PerformerAttention(kernel_ratio=kernel_ratio):
            return int(dim * kernel_ratio)
        case TransformerAttention():
            return None
        case _:
            raise AssertionError(attention)


@cached
def _token_attention(tokens: int, in_dim: int, dim: int, features: int | None) -> Counted:
    if features is None:
        return Counted.of(
            _norm("norm1", tokens, in_dim),
            _linear("attn.qkv", tokens, in_dim, 3 * dim, bias=False),
            _linear("attn.proj", tokens, dim, dim),
            Leaf(f"attn.{PRODUCTS}", 2 * tokens * tokens * dim, 0),
            _norm("norm2", tokens, dim),
            _linear("mlp.fc1", tokens, dim, dim),
            _linear("mlp.fc2", tokens, dim, dim),
        )
    return Counted.of(
        _norm("norm1", tokens, in_dim),
        _linear("kqv", tokens, in_dim, 3 * dim),
        _linear("proj", tokens, dim, dim),
        _norm("norm2", tokens, dim),
        _linear("mlp.0", tokens, dim, dim),
        _linear("mlp.2", tokens, dim, dim),
        Leaf("w", 0, 0, features * dim),
        Leaf(PRODUCTS, 4 * tokens * dim * features + tokens * features, 0),
    )


def _backbone(backbone: Backbone, tokens: int) -> list[list[Counted]]:
    match backbone:
        case PlainBackbone():
            return [_blocks(backbone, tokens)]
        case DenseBackbone(groups=groups, growth_rate=growth_rate):
            counts: list[list[Counted]] = []
            blocks, out_dim = iter(_blocks(backbone, tokens)), 0
            for group in groups:
                if counts:
                    counts.append([Counted.of(_linear("linear", tokens, out_dim, out_dim // 2))])
                linears = [_linear("dense_linear", tokens, width, growth_rate) for width in group]
                counts.append([Counted.of(*next(blocks).leaves, linear) for linear in linears])
                out_dim = group[-1] + growth_rate
            return counts
        case _:
            assert_never(backbone)


def _blocks(backbone: BaseBackbone, tokens: int) -> list[Counted]:
    """Return one count per block."""
    options = (backbone.qkv_bias, backbone.ghost, backbone.squeeze_excite)
    shapes = list(zip(backbone.widths, backbone.mlp_dims, strict=True))
    known = {shape: _block(tokens, *shape, *options) for shape in set(shapes)}
    return [known[shape] for shape in shapes]


@cached
def _block(
    tokens: int, dim: int, hidden: int, bias: bool, ghost: Ghost | None, squeeze: SqueezeExcite | None
) -> Counted:
    return Counted.of(
        _norm("norm1", tokens, dim),
        *_attention(tokens, dim, bias, ghost, squeeze),
        _norm("norm2", tokens, dim),
        *_mlp(tokens, dim, hidden, ghost),
    )


def _attention(tokens: int, dim: int, bias: bool, ghost: Ghost | None, squeeze: SqueezeExcite | None) -> list[Leaf]:
    if ghost and ghost.attention:
        leaves = [_linear(f"attn.{name}", tokens, dim, dim // 2, bias) for name in "qkv"]
        leaves += [Leaf(f"attn.cheap_operation_{name}", 0, dim // 2) for name in "qkv"]
    else:
        leaves = [_linear("attn.qkv", tokens, dim, 3 * dim, bias)]
    leaves.append(_linear("attn.proj", tokens, dim, dim))
    if squeeze:
        bottleneck = dim // squeeze.reduction
        leaves.append(_linear("attn.se_layer.fc.0", 1, dim, bottleneck, bias=False))
        leaves.append(_linear("attn.se_layer.fc.2", 1, bottleneck, dim, bias=False))
    leaves.append(Leaf(f"attn.{PRODUCTS}", 2 * tokens * tokens * dim, 0))
    return leaves


def _mlp(tokens: int, dim: int, hidden: int, ghost: Ghost | None) -> list[Leaf]:
    if not (ghost and ghost.mlp):
        return [_linear("mlp.fc1", tokens, dim, hidden), _linear("mlp.fc2", tokens, hidden, dim)]
    copies = [Leaf(f"mlp.cheap_operation{copy}", 0, dim) for copy in range(2, hidden // dim + 1)]
    return [_linear("mlp.fc1", tokens, dim, dim), *copies, _linear("mlp.fc2", tokens, hidden, dim)]
