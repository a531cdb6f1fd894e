"""The transformer block of the plain backbone."""

from torch import Tensor, nn

from t2tbuild.modules.recompute import recompute_in_backward


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)): the pre-norm transformer block (Equation 4 of the paper).

    `drop_path` is the rate of stochastic depth per image (Huang et al., 2016), applied to both residual branches.
    """

    def __init__(self, *, dim: int, attn: nn.Module, mlp: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp
        self.drop_path = _build_drop_path(drop_path)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        x_BNC = x_BNC + self.drop_path(self._prenorm(self.norm1, self.attn, x_BNC))
        return x_BNC + self.drop_path(self._prenorm(self.norm2, self.mlp, x_BNC))  # type: ignore[no-any-return]

    def _prenorm(self, norm: nn.Module, module: nn.Module, x_BNC: Tensor) -> Tensor:
        """Return module(norm(x)); the output of the norm is recomputed in the backward pass."""
        y_BNC = norm(x_BNC)
        with recompute_in_backward(y_BNC, lambda: norm.forward(x_BNC), source=x_BNC):
            return module(y_BNC)  # type: ignore[no-any-return]


def _build_drop_path(rate: float) -> nn.Module:
    if rate == 0:
        return nn.Identity()
    from timm.layers.drop import DropPath  # timm takes seconds to import, and only training needs it

    return DropPath(rate)
