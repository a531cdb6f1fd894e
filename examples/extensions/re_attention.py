"""Re-attention: the attention maps of the heads are mixed by a trained matrix, so that deep blocks differ.

    backbone: {depth: 14, embed_dim: 384, num_heads: 6, options: [{kind: re_attention}]}

Source: Zhou et al., "DeepViT: Towards Deeper Vision Transformer", 2021, Equation 3: Norm(theta^T softmax(q k^T)) v.
Departure: the norm is a LayerNorm over the heads. The authors use batch norm, with which images depend on each other.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from t2tbuild import extension
from t2tbuild.build import BlockModules
from t2tbuild.modules.attention import BlockAttention, split_heads


class ReAttention(extension.Node):
    """Attention maps that are mixed across heads."""

    replaces: ClassVar[tuple[str, ...]] = ("attention",)

    kind: Literal["re_attention"] = "re_attention"
    """A trained matrix of heads x heads mixes the attention maps of the heads."""


class ReAttentionModule(BlockAttention):
    """proj(norm(theta^T softmax(q k^T / sqrt(D))) v), with theta [heads, heads]."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.theta = nn.Parameter(torch.eye(num_heads) + 0.1 * torch.randn(num_heads, num_heads))
        self.norm = nn.LayerNorm(num_heads)
        self.proj = nn.Linear(dim, dim)

    def attend(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        q_BHND, k_BHND, v_BHND = (split_heads(one, self.num_heads) for one in self.qkv(x_BNC).chunk(3, dim=2))
        maps_BHNN = (q_BHND @ k_BHND.transpose(2, 3) * self.scale).softmax(dim=3)
        mixed_BNNH = self.norm(maps_BHNN.permute(0, 2, 3, 1) @ self.theta)
        y_BHND = mixed_BNNH.permute(0, 3, 1, 2) @ v_BHND
        return self.proj(y_BHND.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def build(_node: ReAttention) -> BlockModules:
    """Replace the attention of every block."""
    return BlockModules(attention=ReAttentionModule)


def attend(f: extension.Forward, x: extension.Tensor, shape: extension.BlockShape) -> extension.Tensor:
    """Record the forward pass of `ReAttentionModule`: 2 N N C MACs as attention has, and N N H H of theta."""
    (tokens, dim), heads = x.shape, shape.heads
    pairs, maps = tokens * tokens, (tokens * tokens, heads)
    theta = f.parameter("theta", heads * heads)
    q, k, v = f.chunk(f.linear("qkv", x, 3 * dim, bias=shape.qkv_bias), 3)
    scores = f.apply("products", [q, k], maps, saves=2, macs=pairs * dim)
    weights = f.apply("softmax", [f.apply("scale scores", [scores])], saves_output=True)
    mixed = f.apply("products", [weights], saves=1, macs=pairs * heads * heads, trained=theta)
    y = f.apply("products", [f.norm("norm", mixed), v], (tokens, dim), saves=2, macs=pairs * dim)
    return f.linear("proj", y, dim)


def forward(_node: ReAttention) -> extension.BlockHooks:
    """Return the changes of a block, with a word for the diagram."""
    return extension.BlockHooks(attention=attend, word="mixed heads")


EXTENSIONS = [extension.BlockOption(node=ReAttention, build=build, forward=forward)]
