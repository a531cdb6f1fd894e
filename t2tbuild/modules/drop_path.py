"""Stochastic depth, per image (Huang et al., 2016)."""

from torch import Tensor, nn


class DropPath(nn.Module):
    """In training, skip the residual branch of an image with chance `rate`, and scale the others by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x_BNC: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x_BNC
        keep = 1 - self.rate
        return x_BNC * x_BNC.new_empty(x_BNC.shape[0], 1, 1).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"
