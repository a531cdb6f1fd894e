"""Tokenizers: the rows and calls from the image to tokens of the backbone's width."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from t2tbuild.layout import Grid
from t2tbuild.spec.base import Node
from t2tbuild.spec.tokenizer import ConvTokenizer, PatchTokenizer, Stage, T2TTokenizer, Window
from t2tbuild.symbolic.forward import Forward, Split, Tensor
from t2tbuild.symbolic.row import BoxKind, Row, Step, entry
from t2tbuild.symbolic.token_attention import TOKEN_ATTENTIONS

MODULE = "tokens_to_token"


def tokens_to_token(tokenizer: T2TTokenizer, image: Grid, in_chans: int, embed_dim: int) -> Iterator[Step]:
    """Yield soft splits with a token attention between each two, then a projection."""
    rows = zip(tokenizer.stages, tokenizer.grids(image), tokenizer.widths(in_chans), strict=True)
    for index, (stage, grid, width) in enumerate(rows):
        name, module = f"soft split {index + 1} ({stage})", f"{MODULE}.soft_split{index}"
        yield Row(name, (module,), BoxKind.SPLIT, functools.partial(_describe_window, stage), grid, stage)
        yield soft_split, grid, width
        if stage.attention is None:
            detail = f"{width:,} → {embed_dim:,} channels"
            yield Row("projection", (f"{MODULE}.project",), BoxKind.LINEAR, detail, grid)
            yield project, embed_dim
        else:
            node, dim = stage.attention, stage.token_dim or 0
            name, module = f"token {node.kind} {index + 1}", f"{MODULE}.attention{index + 1}"
            detail = ", ".join([f"{width:,} → {dim:,} channels", *_describe_attention(node, dim)])
            yield Row(name, (module,), BoxKind.ATTENTION, detail, grid)
            yield entry(TOKEN_ATTENTIONS, node), node, dim


def soft_split(_f: Forward, x: Tensor, grid: Grid, width: int) -> Split:
    """Return the tokens of a `SoftSplit`, which whoever reads them unfolds."""
    return Split(grid, width, x)


def project(f: Forward, tokens: Split, embed_dim: int) -> Tensor:
    """Record the projection after the last soft split."""
    return f.project("", tokens, embed_dim)


def convolutions(
    tokenizer: ConvTokenizer | PatchTokenizer, image: Grid, in_chans: int, embed_dim: int
) -> Iterator[Step]:
    """Yield convolutions, the last to the backbone's width."""
    rows = zip(tokenizer.windows, tokenizer.grids(image), tokenizer.channels_below(in_chans), strict=True)
    for index, (window, grid, channels) in enumerate(rows):
        out_dim, patches = window.token_dim or embed_dim, isinstance(tokenizer, PatchTokenizer)
        name = f"patches of {window.patch_size}" if patches else f"convolution {index + 1} ({window})"
        module = f"{MODULE}.soft_split{index}" if window.token_dim else f"{MODULE}.project"
        detail = f"{_describe_window(window)}; {channels:,} → {out_dim:,}"
        yield Row(name, (module,), BoxKind.LINEAR, detail, grid, window)
        yield convolution, grid.tokens, window.patch_size, out_dim


def convolution(f: Forward, x: Tensor, tokens: int, kernel: int, out_dim: int) -> Tensor:
    """Record one convolution of the tokenizer."""
    return f.convolution("", x, tokens, kernel, out_dim)


def _describe_attention(node: Any, dim: int) -> list[str]:
    """Return the description of a token attention in a list; the node of an extension may have none."""
    return [str(node.describe(dim))] if hasattr(node, "describe") else []


def _describe_window(window: Window) -> str:
    patch = f"{window.patch_size} x {window.patch_size}"
    if not (window.overlap or window.pad):
        return f"{patch}, side by side"
    # convolutions are described by their strides
    shared = f", overlap {window.overlap}" if isinstance(window, Stage) else ""
    return f"{patch}{shared}, stride {window.stride}, padding {window.pad}"


TOKENIZERS: dict[type[Node], Callable[[Any, Grid, int, int], Iterator[Step]]] = {
    T2TTokenizer: tokens_to_token,
    ConvTokenizer: convolutions,
    PatchTokenizer: convolutions,
}
"""The symbolic forward of each tokenizer: (node, image, in_chans, embed_dim)."""
