"""Token attention of T2T-ViT: the Performer, linear in the number of tokens (FAVOR+, Choromanski et al., ICLR 2021)."""

import math

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.soft_split import SoftSplit

EPSILON = 1e-8


class TokenPerformer(nn.Module):
    """y = phi(q) (phi(k)^T v) / (phi(q) sum_n phi(k_n)), then v + proj(y), then x + mlp(norm2(x)).

    phi(x) = exp(w x - |x|^2 / 2) / sqrt(M) with M = int(kernel_ratio * dim) random features. `w` is an orthogonal
    matrix times sqrt(M) (its rows are orthogonal up to M = dim); it is frozen, and saved as a parameter. The features
    are computed in float32, also under autocast. As in the released code, the skip connection adds the values (see
    TokenTransformer), and `kqv` projects to k, q, v in this order.
    """

    def __init__(self, *, in_dim: int, dim: int, kernel_ratio: float, dropout: float) -> None:
        super().__init__()
        self.dim = dim
        self.norm1 = nn.LayerNorm(in_dim)
        self.kqv = nn.Linear(in_dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim), nn.Dropout(dropout))
        features = int(dim * kernel_ratio)
        w_MC = nn.init.orthogonal_(torch.empty(features, dim)) * math.sqrt(features)
        self.w = nn.Parameter(w_MC, requires_grad=False)

    def forward(self, x: Tensor, soft_split: SoftSplit | None = None) -> Tensor:
        """Tokens [B, N, in_dim] -> [B, N, dim]; with `soft_split`, x is the feature map [B, C, height, width]."""
        kqv_BNC = self.kqv(self.norm1(x)) if soft_split is None else soft_split.project(x, self.kqv, self.norm1)
        k_BNC, q_BNC, v_BNC = kqv_BNC.chunk(3, dim=-1)
        y_BNC = performer_attention(q_BNC, k_BNC, v_BNC, self.w).to(v_BNC.dtype)
        x_BNC = v_BNC + self.dropout(self.proj(y_BNC))
        return x_BNC + self.mlp(self.norm2(x_BNC))  # type: ignore[no-any-return]


def performer_attention(q_BNC: Tensor, k_BNC: Tensor, v_BNC: Tensor, w_MC: Tensor) -> Tensor:
    """Return phi(q) (phi(k)^T v) / (phi(q) sum_n phi(k_n)): three tensors [B, N, dim] -> [B, N, dim], in float32.

    `w_MC` are the random features. Numerator and denominator share factors: 1 / M, and exp of the largest exponent of
    an image's keys and of each query. They are subtracted before the exponential, so it never overflows. EPSILON, which
    the released code adds to the denominator, is scaled by the same factors. The result equals the released code's
    wherever that is finite.
    """
    with _autocast_off(k_BNC.device.type):
        (k_BNM, max_k_B11), (q_BNM, max_q_BN1) = (
            random_features(k_BNC, w_MC, (1, 2)),
            random_features(q_BNC, w_MC, (2,)),
        )
        kv_BMC = k_BNM.transpose(1, 2) @ v_BNC.float()
        total_BN1 = q_BNM @ k_BNM.sum(dim=1).unsqueeze(2)
        epsilon_BN1 = torch.exp(math.log(EPSILON * w_MC.shape[0]) - max_k_B11 - max_q_BN1)
        return (q_BNM @ kv_BMC) / (total_BN1 + epsilon_BN1)


torch.fx.wrap("performer_attention")  # one node of a symbolic trace, where the device for autocast is unknown


def random_features(x_BNC: Tensor, w_MC: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return sqrt(M) phi(x) / exp(m), which is at most 1, and m: [B, N, dim] -> [B, N, M] and m.

    m is the maximum over the dimensions `dims` of the exponent w x - |x|^2 / 2. Computed in float32 if autocast is off.
    """
    x_BNC = x_BNC.float()
    half_square_BN1 = x_BNC.square().sum(dim=-1, keepdim=True) / 2
    exponent_BNM = F.linear(x_BNC, w_MC.float()) - half_square_BN1
    maximum = exponent_BNM.detach().amax(dim=dims, keepdim=True)
    return torch.exp(exponent_BNM - maximum), maximum


def _autocast_off(device: str) -> torch.autocast:
    """Return a context without autocast, also for devices that do not support it, such as meta."""
    return torch.autocast(device if torch.amp.is_autocast_available(device) else "cpu", enabled=False)
