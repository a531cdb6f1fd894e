"""Backbones: the rows and calls of their blocks."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from t2tbuild.spec.backbone import BaseBackbone, DenseBackbone, PlainBackbone
from t2tbuild.spec.base import Node
from t2tbuild.symbolic import block as transformer_block
from t2tbuild.symbolic.block import BlockShape, block, block_shapes, describe_heads, describe_range
from t2tbuild.symbolic.forward import Forward, Tensor
from t2tbuild.symbolic.row import BoxKind, Caption, Row, Step


@functools.cache  # a search calls it thousands of times with few different arguments
def _block_names(first: int, end: int) -> tuple[str, ...]:
    return tuple(f"blocks.{index}" for index in range(first, end))


def plain(backbone: PlainBackbone) -> list[Step]:
    """Return blocks of one width."""
    depth, detail = backbone.depth, functools.partial(_describe_plain, backbone)
    row = Row(f"backbone blocks x {depth}", _block_names(0, depth), BoxKind.BLOCKS, detail)
    return [row, *[(block, shape) for shape in block_shapes(backbone)]]


def _describe_plain(backbone: PlainBackbone) -> str:
    ratio = describe_range(backbone.mlp_ratios)
    return f"{backbone.embed_dim:,} channels, {describe_heads(backbone)}, MLP ratio {ratio}"


def dense(backbone: DenseBackbone) -> Iterator[Step]:
    """Yield groups of dense blocks, and a transition between each two."""
    shapes, growth, first, width = iter(block_shapes(backbone)), backbone.growth_rate, 0, 0
    for index, group in enumerate(backbone.groups):
        if index:
            detail = f"{width:,} → {group[0]:,} channels, GELU"
            yield Row(f"transition {index}", (f"blocks.{first}",), BoxKind.LINEAR, detail)
            yield transition, group[0]
            first += 1
        names, width = _block_names(first, first + len(group)), group[-1] + growth
        detail = f"{group[0]:,} → {width:,} channels, {growth} more a block"
        yield Row(f"dense group {index + 1} x {len(group)}", names, BoxKind.BLOCKS, detail)
        yield from [(dense_block, shape, growth) for shape in itertools.islice(shapes, len(group))]
        first += len(group)


def dense_block(f: Forward, x: Tensor, shape: BlockShape, growth_rate: int) -> Tensor:
    """Record the forward pass of `DenseBlock`: [x, dense_linear(block(x))]."""
    return f.cat(x, f.cast(f.linear("dense_linear", block(f, x, shape), growth_rate), x.width))


def transition(f: Forward, x: Tensor, out_dim: int) -> Tensor:
    """Record the forward pass of `Transition`."""
    return f.gelu(f.linear("linear", x, out_dim))


BACKBONES: dict[type[Node], Callable[[Any], Iterable[Step]]] = {PlainBackbone: plain, DenseBackbone: dense}
"""The symbolic forward of each backbone: (node)."""


def captions(backbone: BaseBackbone) -> dict[str, Caption]:
    """Return the texts of a block's modules in the diagram, by their names."""
    found = transformer_block.captions(backbone)
    if isinstance(backbone, DenseBackbone):
        detail = f"→ {backbone.growth_rate:,} channels"
        found["dense_linear"] = Caption(BoxKind.LINEAR, "dense linear", detail)
    return found
