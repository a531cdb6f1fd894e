"""Multi-head self-attention of the backbone."""

import torch.nn.functional as F
from torch import Tensor, nn


def split_heads(x_BNC: Tensor, num_heads: int) -> Tensor:
    """Split the channels into heads: [B, N, H * D] -> [B, H, N, D]."""
    return x_BNC.unflatten(2, (num_heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call, no-any-return]


def softmax_attention(q_BNC: Tensor, k_BNC: Tensor, v_BNC: Tensor, num_heads: int) -> Tensor:
    """Return softmax(Q K^T / sqrt(D)) V of each head: three tensors [B, N, H * D] -> [B, N, H * D]."""
    q_BHND, k_BHND, v_BHND = (split_heads(x_BNC, num_heads) for x_BNC in (q_BNC, k_BNC, v_BNC))
    y_BHND = F.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND)
    return y_BHND.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(D)) V over all tokens, followed by a projection; D = dim / num_heads.

    Source: Equation 4 of the paper. The released weights use the scale 1 / sqrt(D) too. `squeeze_excite`, if given, is
    applied after the projection.
    """

    def __init__(self, *, dim: int, num_heads: int, qkv_bias: bool, squeeze_excite: nn.Module | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.se_layer = squeeze_excite or nn.Identity()

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        q_BNC, k_BNC, v_BNC = self.qkv(x_BNC).chunk(3, dim=2)
        return self.se_layer(self.proj(softmax_attention(q_BNC, k_BNC, v_BNC, self.num_heads)))  # type: ignore[no-any-return]
