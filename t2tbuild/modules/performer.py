"""Token attention of T2T-ViT: a Performer, linear in the number of tokens (FAVOR+, Choromanski et al., ICLR 2021)."""

import math

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.soft_split import SoftSplit

EPSILON = 1e-8


class TokenPerformer(nn.Module):
    """y = phi(q) (phi(k)^T v) / (phi(q) sum_n phi(k_n)), then v + proj(y), then x + mlp(norm2(x)).

    phi(x) = exp(w x - |x|^2 / 2) / sqrt(M), with M = int(kernel_ratio * dim) random features: `w` is an orthogonal
    matrix times sqrt(M) (its rows are orthogonal up to M = dim), frozen, and saved as a parameter. The features are
    computed in float32 whatever the autocast type. The skip adds the values, as in TokenTransformer, and the projection
    kqv gives k, q, v in this order: all as in the released code.
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
        """Tokens [B, N, in_dim], or the map [B, C, height, width] that `soft_split` makes them of -> [B, N, dim]."""
        kqv_BNC = self.kqv(self.norm1(x)) if soft_split is None else soft_split.project(x, self.kqv, self.norm1)
        k_BNC, q_BNC, v_BNC = kqv_BNC.chunk(3, dim=-1)
        y_BNC = attend(k_BNC, q_BNC, v_BNC, self.w).to(v_BNC.dtype)
        x_BNC = v_BNC + self.dropout(self.proj(y_BNC))
        return x_BNC + self.mlp(self.norm2(x_BNC))  # type: ignore[no-any-return]


def attend(k_BNC: Tensor, q_BNC: Tensor, v_BNC: Tensor, w_MC: Tensor) -> Tensor:
    """phi(q) (phi(k)^T v) / (phi(q) sum_n phi(k_n)): [B, N, dim] each -> [B, N, dim], in float32.

    Above and below the line the same powers cancel: exp of the largest exponent of an image's keys and of each query,
    and 1 / M. They are taken off before the exponential, so that it never overflows, and EPSILON, which the released
    code adds below the line, is scaled by them: the result is the same, where that code's is finite.
    """
    with _autocast_off(k_BNC.device.type):
        (k_BNM, top_k_B11), (q_BNM, top_q_BN1) = (
            random_features(k_BNC, w_MC, (1, 2)),
            random_features(q_BNC, w_MC, (2,)),
        )
        kv_BMC = k_BNM.transpose(1, 2) @ v_BNC.float()
        total_BN1 = q_BNM @ k_BNM.sum(dim=1).unsqueeze(2)
        epsilon_BN1 = torch.exp(math.log(EPSILON * w_MC.shape[0]) - top_k_B11 - top_q_BN1)
        return (q_BNM @ kv_BMC) / (total_BN1 + epsilon_BN1)


torch.fx.wrap("attend")  # one node of a symbolic trace, which knows no device to switch autocast off for


def random_features(x_BNC: Tensor, w_MC: Tensor, shared: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """sqrt(M) phi, [B, N, dim] -> [B, N, M], as features of at most 1 times exp of what is given second.

    That is the largest exponent w x - |x|^2 / 2 over the dimensions `shared`. In float32 where autocast is off.
    """
    x_BNC = x_BNC.float()
    half_square_BN1 = x_BNC.square().sum(dim=-1, keepdim=True) / 2
    exponent_BNM = F.linear(x_BNC, w_MC.float()) - half_square_BN1
    top = exponent_BNM.detach().amax(dim=shared, keepdim=True)
    return torch.exp(exponent_BNM - top), top


def _autocast_off(device: str) -> torch.autocast:
    """A context without autocast; devices that have none, such as meta, are let through."""
    return torch.autocast(device if torch.amp.is_autocast_available(device) else "cpu", enabled=False)
