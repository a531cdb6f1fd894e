"""Token attention of T2T-ViT_t: one transformer layer that also reduces the channels (Figure 3 of the paper)."""

import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.mlp import Mlp
from t2tbuild.modules.soft_split import SoftSplit


class TokenAttention(nn.Module):
    """v + proj(softmax(q k^T / sqrt(in_dim)) v), with one head of `dim` channels.

    It departs from a textbook block in two points, as the released code does: the scale follows the input width, not
    the head's; and the skip connection adds the values, because the input has another width.
    """

    def __init__(self, *, in_dim: int, dim: int) -> None:
        super().__init__()
        self.scale = in_dim**-0.5
        self.qkv = nn.Linear(in_dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, soft_split: SoftSplit | None = None, norm: nn.LayerNorm | None = None) -> Tensor:
        """Tokens [B, N, in_dim] -> [B, N, dim]; with `soft_split`, x is the feature map [B, C, height, width]."""
        qkv_BNC = self.qkv(x) if soft_split is None else soft_split.project(x, self.qkv, norm)
        q_B1NC, k_B1NC, v_B1NC = qkv_BNC.unsqueeze(1).chunk(3, dim=-1)
        y_B1NC = F.scaled_dot_product_attention(q_B1NC, k_B1NC, v_B1NC, scale=self.scale)
        return (v_B1NC + self.proj(y_B1NC)).squeeze(1)  # type: ignore[no-any-return]


class TokenTransformer(nn.Module):
    """attn(norm1(x)), then x + mlp(norm2(x)) with an MLP of ratio 1."""

    def __init__(self, *, in_dim: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim)
        self.attn = TokenAttention(in_dim=in_dim, dim=dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim=dim, hidden_dim=dim)

    def forward(self, x: Tensor, soft_split: SoftSplit | None = None) -> Tensor:
        """Tokens [B, N, in_dim] -> [B, N, dim]; with `soft_split`, x is the feature map [B, C, height, width]."""
        x_BNC = self.attn(self.norm1(x)) if soft_split is None else self.attn(x, soft_split, self.norm1)
        return x_BNC + self.mlp(self.norm2(x_BNC))  # type: ignore[no-any-return]
