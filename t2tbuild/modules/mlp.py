"""The two-layer perceptron of a transformer block."""

import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.recompute import recompute_in_backward


class Mlp(nn.Module):
    """fc2(GELU(fc1(x))), both layers with biases. The output of GELU is recomputed in the backward pass."""

    def __init__(self, *, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        h_BNC = self.fc1(x_BNC)
        y_BNC = F.gelu(h_BNC)
        with recompute_in_backward(y_BNC, lambda: F.gelu(h_BNC), source=h_BNC):
            return self.fc2(y_BNC)  # type: ignore[no-any-return]
