"""Ghost operations: channels that are scaled copies of others (Han et al., CVPR 2020; Table 6 of the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.attention import attend


class ChannelScale(nn.Module):
    """x * w, one weight per channel: the released code's depthwise convolution of kernel 1, without its transposes.

    `weight` is [dim, 1, 1], as that convolution's, and starts uniform in [-1, 1], as that does.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, 1, 1).uniform_(-1, 1))

    def forward(self, x_BNC: Tensor) -> Tensor:
        return x_BNC * self.weight.flatten().to(x_BNC.dtype)  # under autocast as a convolution would: in its type


class GhostAttention(nn.Module):
    """Attention whose queries, keys and values are half computed, half scaled copies of the computed half.

    The halves are concatenated before the heads are split, so that the first heads see computed channels only. The
    scale is 1 / sqrt(head's channels).
    """

    def __init__(self, *, dim: int, num_heads: int, qkv_bias: bool, squeeze_excite: nn.Module | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim // 2, bias=qkv_bias)
        self.k = nn.Linear(dim, dim // 2, bias=qkv_bias)
        self.v = nn.Linear(dim, dim // 2, bias=qkv_bias)
        self.cheap_operation_q = ChannelScale(dim // 2)
        self.cheap_operation_k = ChannelScale(dim // 2)
        self.cheap_operation_v = ChannelScale(dim // 2)
        self.proj = nn.Linear(dim, dim)
        self.se_layer = squeeze_excite or nn.Identity()

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        q_BNC, k_BNC, v_BNC = self.q(x_BNC), self.k(x_BNC), self.v(x_BNC)
        q_BNC = torch.cat((q_BNC, self.cheap_operation_q(q_BNC)), dim=2)
        k_BNC = torch.cat((k_BNC, self.cheap_operation_k(k_BNC)), dim=2)
        v_BNC = torch.cat((v_BNC, self.cheap_operation_v(v_BNC)), dim=2)
        return self.se_layer(self.proj(attend(q_BNC, k_BNC, v_BNC, self.num_heads)))  # type: ignore[no-any-return]


class GhostMlp(nn.Module):
    """fc2([h, GELU(w2 h), GELU(w3 h), ...]) with h = GELU(fc1(x)) as wide as x: `ratio` times dim channels in all.

    The released code has ratio 3 only; its names go on with cheap_operation4 and so forth.
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
