"""Window attention: softmax attention among the tokens of each square window of the grid.

    stages:
      - {patch_size: 7, overlap: 3, token_dim: 64, attention: {kind: window, window: 7, num_heads: 2}}

Source: Liu et al., "Swin Transformer", ICCV 2021, Section 3.2, without shifted windows and position biases: the next
soft split overlaps, which lets windows exchange tokens.
"""

from collections.abc import Iterator
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from t2tbuild import extension
from t2tbuild.modules.attention import softmax_attention
from t2tbuild.modules.soft_split import SoftSplit, num_windows


class WindowAttention(extension.Node):
    """Softmax attention within square windows of the token grid."""

    kind: Literal["window"] = "window"
    """Attention within windows; the cost is linear in the number of tokens."""
    window: int = Field(default=7, ge=1, le=64, examples=[7], json_schema_extra=extension.unit("tokens"))
    """Side of a window in tokens. The grid is padded with zeros to whole windows."""
    num_heads: int = Field(default=1, ge=1, le=64, examples=[1], json_schema_extra=extension.unit("heads"))
    """Attention heads; they divide token_dim."""

    def check_token_dim(self, token_dim: int) -> Iterator[extension.Violation]:
        """The heads divide token_dim."""
        if token_dim % self.num_heads:
            good = max(heads for heads in range(1, self.num_heads) if token_dim % heads == 0)
            message = f"num_heads must divide token_dim, got {self.num_heads} and {token_dim}"
            yield extension.Violation("num_heads", message, f"write {good}")

    def describe(self, _token_dim: int) -> str:
        """Describe the attention of a stage in the diagram."""
        return f"windows of {self.window} x {self.window} tokens"


class WindowAttentionModule(nn.Module):
    """v + proj(softmax(q k^T / sqrt(D)) v) in each window, with q, k, v = qkv(norm1(x)); then an MLP."""

    def __init__(self, *, in_dim: int, dim: int, window: int, num_heads: int) -> None:
        super().__init__()
        self.window, self.num_heads = window, num_heads
        self.norm1 = nn.LayerNorm(in_dim)
        self.qkv = nn.Linear(in_dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, x_BCHW: Tensor, soft_split: SoftSplit) -> Tensor:
        """[B, C, height, width] -> [B, N, dim]: the tokens of the soft split attend to those of their window."""
        qkv_BNC = soft_split.project(x_BCHW, self.qkv, self.norm1)
        split = soft_split.patch_size, soft_split.stride, soft_split.padding
        rows, columns = (num_windows(side, *split) for side in x_BCHW.shape[2:])
        windows_BNC = self._to_windows(qkv_BNC, rows, columns)
        q_BNC, k_BNC, v_BNC = windows_BNC.chunk(3, dim=2)
        y_BNC = self._to_tokens(softmax_attention(q_BNC, k_BNC, v_BNC, self.num_heads), rows, columns)
        z_BNC = qkv_BNC.chunk(3, dim=2)[2] + self.proj(y_BNC)
        return z_BNC + self.mlp(self.norm2(z_BNC))  # type: ignore[no-any-return]

    def _to_windows(self, x_BNC: Tensor, rows: int, columns: int) -> Tensor:
        """[B, rows * columns, C] -> [B * windows, side * side, C]. Zeros complete the windows at the borders."""
        side = self.window
        x_BYXC = x_BNC.unflatten(1, (rows, columns))  # type: ignore[no-untyped-call]
        x_BYXC = F.pad(x_BYXC, (0, 0, 0, -columns % side, 0, -rows % side))
        x_BRSQSC = x_BYXC.unflatten(2, (-1, side)).unflatten(1, (-1, side))
        return x_BRSQSC.transpose(2, 3).flatten(3, 4).flatten(0, 2)  # type: ignore[no-any-return]

    def _to_tokens(self, x_BNC: Tensor, rows: int, columns: int) -> Tensor:
        """[B * windows, side * side, C] -> [B, rows * columns, C], without the zeros."""
        side = self.window
        windows = (-1, -(-rows // side), -(-columns // side))
        x_BRQSSC = x_BNC.unflatten(1, (side, side)).unflatten(0, windows)  # type: ignore[no-untyped-call]
        x_BYXC = x_BRQSSC.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return x_BYXC[:, :rows, :columns].flatten(1, 2)  # type: ignore[no-any-return]


def build(node: WindowAttention, in_dim: int, dim: int) -> nn.Module:
    """Build the module of a stage whose soft split has tokens of `in_dim` channels."""
    return WindowAttentionModule(in_dim=in_dim, dim=dim, window=node.window, num_heads=node.num_heads)


def forward(f: extension.Forward, split: extension.Split, node: WindowAttention, dim: int) -> extension.Tensor:
    """Record the forward pass of `WindowAttentionModule`: 2 N S S C MACs in windows of S x S tokens."""
    side = node.window
    tokens = -(-split.grid.height // side) * -(-split.grid.width // side) * side**2  # with those of zeros
    qkv = f.project("qkv", split, 3 * dim, norm="norm1")
    windows = f.apply("pad", [qkv], (tokens, 3 * dim))
    q, k, v = f.chunk(windows, 3)
    y = f.apply("crop", [f.attention(q, k, v, node.num_heads, keys=side**2)], (split.grid.tokens, dim))
    z = f.add(f.chunk(qkv, 3)[2], f.linear("proj", y, dim))
    return f.add(z, f.module("mlp", _mlp, f.norm("norm2", z), dim))


def _mlp(f: extension.Forward, x: extension.Tensor, dim: int) -> extension.Tensor:
    return f.linear("2", f.gelu(f.linear("0", x, dim)), dim)


EXTENSIONS = [extension.TokenAttention(node=WindowAttention, build=build, forward=forward)]
