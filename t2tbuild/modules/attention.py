"""Multi-head self-attention of the backbone."""

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(D)) V over all tokens, then a projection; D = dim / num_heads.

    Source: Equation 4 of the paper; the scale is 1 / sqrt(D) for the released weights too.
    """

    def __init__(self, *, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        qkv_3BHND = self.qkv(x_BNC).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y_BHND = F.scaled_dot_product_attention(*qkv_3BHND.unbind(0))
        return self.proj(y_BHND.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
