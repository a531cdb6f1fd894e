"""Ghost operations: some channels are scaled copies of others (Han et al., CVPR 2020; Table 6 of the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.attention import BlockAttention, softmax_attention


class ChannelScale(nn.Module):
    """x * w with one weight per channel: the released code's depthwise convolution of kernel 1, without transposes.

    `weight` has the convolution's shape [dim, 1, 1] and initialisation, uniform in [-1, 1].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, 1, 1).uniform_(-1, 1))

    def forward(self, x_BNC: Tensor) -> Tensor:
        return x_BNC * self.weight.flatten().to(x_BNC.dtype)  # autocast runs a convolution in its dtype


class GhostAttention(BlockAttention):
    """Attention that computes half of the channels of q, k and v; the other half are scaled copies of the first.

    The halves are concatenated before the split into heads, so the first heads have computed channels only. The scale
    is 1 / sqrt(D).
    """

    def __init__(self, *, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim // 2, bias=qkv_bias)
        self.k = nn.Linear(dim, dim // 2, bias=qkv_bias)
        self.v = nn.Linear(dim, dim // 2, bias=qkv_bias)
        self.cheap_operation_q = ChannelScale(dim // 2)
        self.cheap_operation_k = ChannelScale(dim // 2)
        self.cheap_operation_v = ChannelScale(dim // 2)
        self.proj = nn.Linear(dim, dim)

    def attend(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        q_BNC, k_BNC, v_BNC = self.q(x_BNC), self.k(x_BNC), self.v(x_BNC)
        q_BNC = torch.cat((q_BNC, self.cheap_operation_q(q_BNC)), dim=2)
        k_BNC = torch.cat((k_BNC, self.cheap_operation_k(k_BNC)), dim=2)
        v_BNC = torch.cat((v_BNC, self.cheap_operation_v(v_BNC)), dim=2)
        return self.proj(softmax_attention(q_BNC, k_BNC, v_BNC, self.num_heads))  # type: ignore[no-any-return]


class GhostMlp(nn.Module):
    """fc2([h, GELU(w2 h), GELU(w3 h), ...]) with h = GELU(fc1(x)); h has `dim` channels, the input of fc2 ratio * dim.

    The released code supports ratio 3 only; larger ratios continue its names: cheap_operation4 and so on.
    """

    def __init__(self, *, dim: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.fc1 = nn.Linear(dim, dim)
        for copy in range(2, ratio + 1):
            self.add_module(f"cheap_operation{copy}", ChannelScale(dim))
        self.fc2 = nn.Linear(ratio * dim, dim)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        h_BNC = F.gelu(self.fc1(x_BNC))
        copies = [F.gelu(self.get_submodule(f"cheap_operation{copy}")(h_BNC)) for copy in range(2, self.ratio + 1)]
        return self.fc2(torch.cat((h_BNC, *copies), dim=2))  # type: ignore[no-any-return]
