"""The dense backbone: each block's output is concatenated to its input (Huang et al., CVPR 2017; Table 6)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.block import NONE, Block


class DenseBlock(Block):
    """[x, dense_linear(block(x))]: the input, and beside it the block's output reduced to `growth_rate` channels.

    The input is concatenated unchanged, without the block's residual updates, as in the released code. Departure: the
    drop-path rate increases from block to block; the released code uses one rate per group.
    """

    def __init__(
        self,
        *,
        dim: int,
        growth_rate: int,
        attn: nn.Module,
        mlp: nn.Module,
        drop_path: float,
        after_attn: Mapping[str, nn.Module] = NONE,
        after_mlp: Mapping[str, nn.Module] = NONE,
    ) -> None:
        super().__init__(dim=dim, attn=attn, mlp=mlp, drop_path=drop_path, after_attn=after_attn, after_mlp=after_mlp)
        self.dense_linear = nn.Linear(dim, growth_rate)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim + growth_rate]."""
        return torch.cat((x_BNC, self.dense_linear(super().forward(x_BNC))), dim=2)


class Transition(nn.Module):
    """GELU(linear(x)) between two groups of dense blocks; halves the channels."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim // 2)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim // 2]."""
        return F.gelu(self.linear(x_BNC))
