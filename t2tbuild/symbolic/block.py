"""The transformer block with its options: Tensor (N, C) -> Tensor (N, C)."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from t2tbuild.spec.backbone import BaseBackbone, Ghost, LayerScale, SqueezeExcite
from t2tbuild.spec.base import Node
from t2tbuild.symbolic.forward import FULL, Forward, Tensor
from t2tbuild.symbolic.row import BoxKind, Caption, entry


class BlockShape(NamedTuple):
    """One block: its heads, the hidden width of its MLP, whether it may be dropped, and the nodes of its options."""

    heads: int
    hidden: int
    drop_path: bool
    qkv_bias: bool
    options: tuple[Node, ...]


class BlockHooks(NamedTuple):
    """What an option changes in a block.

    Attributes:
        attention, mlp: Functions (forward, x, shape) that replace those of the module "attn" or "mlp".
        after_attention: The name and function (forward, x, option) of a module in "attn" that follows the projection.
        after_branch: The same of a module that ends each branch, before stochastic depth. Its name gets a 1 in the
            branch of the attention and a 2 in that of the MLP.
        caption: The text in the diagram of the module `after_attention`, or of those of `after_branch`.
        word: Added to the caption of each module that is replaced.
    """

    attention: Callable[[Forward, Tensor, BlockShape], Tensor] | None = None
    mlp: Callable[[Forward, Tensor, BlockShape], Tensor] | None = None
    after_attention: tuple[str, Callable[[Forward, Tensor, Any], Tensor]] | None = None
    after_branch: tuple[str, Callable[[Forward, Tensor, Any], Tensor]] | None = None
    caption: Caption | None = None
    word: str = ""


def block_shapes(backbone: BaseBackbone) -> tuple[BlockShape, ...]:
    """Return the shape of each block. The first is never dropped."""
    more = backbone.drop_path > 0, backbone.qkv_bias, backbone.block_options
    return _block_shapes(backbone.heads, backbone.mlp_dims, *more)


@functools.lru_cache(maxsize=2**12)  # the candidates of a search share most of their shapes
def _block_shapes(
    heads: tuple[int, ...], hidden: tuple[int, ...], may_drop: bool, qkv_bias: bool, options: tuple[Node, ...]
) -> tuple[BlockShape, ...]:
    shape = functools.cache(lambda heads, hidden: BlockShape(heads, hidden, may_drop, qkv_bias, options))
    first, *others = map(shape, heads, hidden)
    return first._replace(drop_path=False), *others


def block(f: Forward, x: Tensor, shape: BlockShape) -> Tensor:
    """Record the forward pass of `Block`: x + attn(norm1(x)), then x + mlp(norm2(x))."""
    hooks = [entry(BLOCK_OPTIONS, option)(option) for option in shape.options]
    mlp_of = next((hook.mlp for hook in hooks if hook.mlp), plain_mlp)
    x1 = f.add(
        x, f.drop_path(_branch(f, x, 1, ("attn", _attention_module, shape, hooks), shape, hooks), shape.drop_path)
    )
    return f.add(x1, f.drop_path(_branch(f, x1, 2, ("mlp", mlp_of, shape), shape, hooks), shape.drop_path))


def _branch(
    f: Forward, x: Tensor, number: int, call: tuple[Any, ...], shape: BlockShape, hooks: Sequence[BlockHooks]
) -> Tensor:
    """Record a module (name, function, *arguments) on the normalised x, and the modules that end its branch."""
    name, function, *arguments = call
    z = f.module(name, function, f.recomputed(f.norm(f"norm{number}", x)), *arguments)
    for option, hook in zip(shape.options, hooks, strict=True):
        if hook.after_branch:
            z = f.module(f"{hook.after_branch[0]}{number}", hook.after_branch[1], z, option)
    return z


def _attention_module(f: Forward, x: Tensor, shape: BlockShape, hooks: Sequence[BlockHooks]) -> Tensor:
    """Record the forward pass of `BlockAttention`: an attention, and the modules that follow its projection."""
    y = next((hook.attention for hook in hooks if hook.attention), attention)(f, x, shape)
    for option, hook in zip(shape.options, hooks, strict=True):
        if hook.after_attention:
            y = f.module(*hook.after_attention, y, option)
    return y


def attention(f: Forward, x: Tensor, shape: BlockShape) -> Tensor:
    """Record the forward pass of `Attention`."""
    dim = x.shape[1]
    qkv = f.linear("qkv", x, 3 * dim, bias=shape.qkv_bias)
    q, k, v = f.chunk(qkv, 3)
    return f.linear("proj", f.attention(q, k, v, shape.heads), dim)


def ghost_attention(f: Forward, x: Tensor, shape: BlockShape) -> Tensor:
    """Record the forward pass of `GhostAttention`."""
    dim, bias = x.shape[1], shape.qkv_bias
    q, k, v = (f.linear(name, x, dim // 2, bias=bias) for name in "qkv")
    q = f.cat(q, f.scale("cheap_operation_q", q))
    k = f.cat(k, f.scale("cheap_operation_k", k))
    v = f.cat(v, f.scale("cheap_operation_v", v))
    return f.linear("proj", f.attention(q, k, v, shape.heads), dim)


def plain_mlp(f: Forward, x: Tensor, shape: BlockShape) -> Tensor:
    """Record the forward pass of the `Mlp` of a block."""
    return mlp(f, x, shape.hidden)


def mlp(f: Forward, x: Tensor, hidden: int) -> Tensor:
    """Record the forward pass of `Mlp`."""
    return f.linear("fc2", f.recomputed(f.gelu(f.linear("fc1", x, hidden))), x.shape[1])


def ghost_mlp(f: Forward, x: Tensor, shape: BlockShape) -> Tensor:
    """Record the forward pass of `GhostMlp`."""
    dim = x.shape[1]
    h = f.gelu(f.linear("fc1", x, dim))
    copies = [f.gelu(f.scale(f"cheap_operation{copy}", h)) for copy in range(2, shape.hidden // dim + 1)]
    return f.linear("fc2", f.cat(h, *copies), dim)


def squeeze_excite(f: Forward, x: Tensor, option: SqueezeExcite) -> Tensor:
    """Record the forward pass of `SqueezeExcite`."""
    dim = x.shape[1]
    weights = f.module("fc", _channel_weights, f.apply("mean", [x], (1, dim)), dim // option.reduction)
    return f.apply("multiply", [x, weights], saves=2)


def _channel_weights(f: Forward, mean: Tensor, bottleneck: int) -> Tensor:
    narrow = f.apply("relu", [f.linear("0", mean, bottleneck, bias=False)], saves_output=True)
    return f.apply("sigmoid", [f.linear("2", narrow, mean.shape[1], bias=False)], saves_output=True)


def layer_scale(f: Forward, x: Tensor, _option: LayerScale) -> Tensor:
    """Record the forward pass of `LayerScale`, in float32 also under autocast."""
    return f.scale("", x, width=FULL)


def _ghost(option: Ghost) -> BlockHooks:
    return BlockHooks(ghost_attention if option.attention else None, ghost_mlp if option.mlp else None, word="ghost")


def _squeeze_excite(option: SqueezeExcite) -> BlockHooks:
    detail = f"bottleneck of channels / {option.reduction}"
    caption = Caption(BoxKind.LINEAR, "squeeze-excite", detail)
    return BlockHooks(after_attention=("se_layer", squeeze_excite), caption=caption)


def _layer_scale(option: LayerScale) -> BlockHooks:
    caption = Caption(BoxKind.LINEAR, "layer scale", f"a weight per channel, {option.init:g} at first")
    return BlockHooks(after_branch=("ls", layer_scale), caption=caption)


BLOCK_OPTIONS: dict[type[Node], Callable[[Any], BlockHooks]] = {
    Ghost: _ghost,
    SqueezeExcite: _squeeze_excite,
    LayerScale: _layer_scale,
}
"""What each option changes in a block, by its node."""


def captions(backbone: BaseBackbone) -> dict[str, Caption]:
    """Return the texts of a block's modules in the diagram, by their names."""
    hooks = [entry(BLOCK_OPTIONS, option)(option) for option in backbone.block_options]
    heads, hidden = describe_heads(backbone), _describe_mlp(backbone)
    of_attention = ", ".join([heads, *(hook.word for hook in hooks if hook.attention)])
    of_mlp = ", ".join([hidden, *(hook.word for hook in hooks if hook.mlp)])
    norm = Caption(BoxKind.NORM, "norm", "LayerNorm")
    after = [(name, hook.caption) for hook in hooks if hook.caption for name in _names_after(hook)]
    return dict(after) | {
        "norm1": norm,
        "attn": Caption(BoxKind.ATTENTION, "attention", of_attention, backbone.heads),
        "norm2": norm,
        "mlp": Caption(BoxKind.LINEAR, "MLP", of_mlp, backbone.mlp_ratios),
    }


def _names_after(hook: BlockHooks) -> list[str]:
    """Return the names of the modules that an option adds."""
    names = [f"attn.{hook.after_attention[0]}"] if hook.after_attention else []
    return names + [f"{hook.after_branch[0]}{number}" for number in (1, 2) if hook.after_branch]


def describe_heads(backbone: BaseBackbone) -> str:
    """Describe the heads of the attention: 6 heads of 64."""
    heads = backbone.heads
    dims = {width // number for width, number in set(zip(backbone.widths, heads, strict=True))}
    noun = "head" if set(heads) == {1} else "heads"
    return f"{describe_range(heads)} {noun}" + (f" of {dims.pop()}" if len(dims) == 1 else "")


def _describe_mlp(backbone: BaseBackbone) -> str:
    """Describe the widths of the MLP, or their ratios if blocks differ."""
    shapes = set(zip(backbone.widths, backbone.mlp_dims, strict=True))
    if len(shapes) > 1:
        return f"ratio {describe_range(backbone.mlp_ratios)}"
    width, hidden = shapes.pop()
    return f"{width:,} → {hidden:,} → {width:,}"


def describe_range(values: Sequence[int | float]) -> str:
    """Format the value of all blocks, or their range.

    >>> describe_range((3, 3, 3)), describe_range((4, 4, 6, 1.5))
    ('3', '1.5 to 6')
    """
    least, largest = min(values), max(values)
    return f"{least:g}" if least == largest else f"{least:g} to {largest:g}"
