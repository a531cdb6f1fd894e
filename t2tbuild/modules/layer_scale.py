"""LayerScale: trained weights per channel at the end of each residual branch (CaiT, Touvron et al., ICCV 2021)."""

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """x * gamma with one weight per channel, all `init` at first; the parameter has timm's name.

    As in timm, under autocast the product is in float32: 1e-5 has few bits in float16.
    """

    def __init__(self, *, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(init)))

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        return x_BNC * self.gamma
