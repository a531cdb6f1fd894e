"""The transformer block of the plain backbone."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor, nn

from t2tbuild.modules.recompute import recompute_in_backward

NONE: Mapping[str, nn.Module] = MappingProxyType({})


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)): the pre-norm transformer block (Equation 4 of the paper).

    Args:
        dim: Channels.
        attn, mlp: Modules [B, N, dim] -> [B, N, dim].
        drop_path: Rate of stochastic depth per image (Huang et al., 2016), applied to both residual branches.
        after_attn, after_mlp: Modules that end the branches, before stochastic depth, by their names in the block.
    """

    def __init__(
        self,
        *,
        dim: int,
        attn: nn.Module,
        mlp: nn.Module,
        drop_path: float,
        after_attn: Mapping[str, nn.Module] = NONE,
        after_mlp: Mapping[str, nn.Module] = NONE,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attn
        self.after_attn = self._add(after_attn)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp
        self.after_mlp = self._add(after_mlp)
        self.drop_path = _build_drop_path(drop_path)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        x_BNC = x_BNC + self.drop_path(self._branch(self.norm1, self.attn, self.after_attn, x_BNC))
        return x_BNC + self.drop_path(self._branch(self.norm2, self.mlp, self.after_mlp, x_BNC))  # type: ignore[no-any-return]

    def _branch(self, norm: nn.Module, module: nn.Module, after: Sequence[str], x_BNC: Tensor) -> Tensor:
        """Return module(norm(x)), then the modules of these names."""
        z_BNC = self._prenorm(norm, module, x_BNC)
        for name in after:
            z_BNC = getattr(self, name)(z_BNC)
        return z_BNC

    def _prenorm(self, norm: nn.Module, module: nn.Module, x_BNC: Tensor) -> Tensor:
        """Return module(norm(x)); the output of the norm is recomputed in the backward pass."""
        y_BNC = norm(x_BNC)
        with recompute_in_backward(y_BNC, lambda: norm.forward(x_BNC), source=x_BNC):
            return module(y_BNC)  # type: ignore[no-any-return]

    def _add(self, modules: Mapping[str, nn.Module]) -> tuple[str, ...]:
        for name, module in modules.items():
            self.add_module(name, module)
        return tuple(modules)


def _build_drop_path(rate: float) -> nn.Module:
    if rate == 0:
        return nn.Identity()
    from timm.layers.drop import DropPath  # timm takes seconds to import, and only training needs it

    return DropPath(rate)
