"""Squeeze-and-excitation over tokens (Hu et al., CVPR 2018; Table 6 of the paper)."""

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """x * sigmoid(W2 ReLU(W1 mean_n(x))): channels are weighted by a function of their means over all tokens.

    As in the released code, the mean includes the class token, and neither linear layer has a bias.
    """

    def __init__(self, *, dim: int, reduction: int) -> None:
        super().__init__()
        bottleneck = dim // reduction
        self.fc = nn.Sequential(
            nn.Linear(dim, bottleneck, bias=False), nn.ReLU(), nn.Linear(bottleneck, dim, bias=False), nn.Sigmoid()
        )

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        return x_BNC * self.fc(x_BNC.mean(dim=1)).unsqueeze(1)  # type: ignore[no-any-return]
