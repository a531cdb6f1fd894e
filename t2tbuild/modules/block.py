"""A block of the plain backbone."""

from torch import Tensor, nn

from t2tbuild.modules.drop_path import DropPath
from t2tbuild.modules.recompute import recomputed


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)): the pre-norm transformer block (Equation 4 of the paper)."""

    def __init__(self, *, dim: int, attn: nn.Module, mlp: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        x_BNC = x_BNC + self.drop_path(self._of_normed(self.attn, self.norm1, x_BNC))
        return x_BNC + self.drop_path(self._of_normed(self.mlp, self.norm2, x_BNC))  # type: ignore[no-any-return]

    def _of_normed(self, module: nn.Module, norm: nn.Module, x_BNC: Tensor) -> Tensor:
        y_BNC = norm(x_BNC)
        with recomputed(y_BNC, lambda: norm.forward(x_BNC), of=x_BNC):
            return module(y_BNC)  # type: ignore[no-any-return]
