"""Multi-head self-attention of the backbone."""

from abc import ABC, abstractmethod

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


class BlockAttention(nn.Module, ABC):
    """The attention of a block: `attend`, then the modules of `follow`, such as squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.followers: tuple[str, ...] = ()

    def follow(self, name: str, module: nn.Module) -> None:
        """Add a module [B, N, dim] -> [B, N, dim] that is applied after `attend`."""
        self.add_module(name, module)
        self.followers += (name,)

    @abstractmethod
    def attend(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim], after the projection."""

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        y_BNC = self.attend(x_BNC)
        for name in self.followers:
            y_BNC = getattr(self, name)(y_BNC)
        return y_BNC


class Attention(BlockAttention):
    """softmax(Q K^T / sqrt(D)) V over all tokens, followed by a projection; D = dim / num_heads.

    Source: Equation 4 of the paper. The released weights use the scale 1 / sqrt(D) too.
    """

    def __init__(self, *, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def attend(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        q_BNC, k_BNC, v_BNC = self.qkv(x_BNC).chunk(3, dim=2)
        return self.proj(softmax_attention(q_BNC, k_BNC, v_BNC, self.num_heads))  # type: ignore[no-any-return]
