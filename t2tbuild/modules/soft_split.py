"""Soft split: overlapping patches become tokens (Section 3.1, Equations 2 and 3 of the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.recompute import recomputed, runs_eagerly


def windows_along(side: int, patch_size: int, stride: int, padding: int) -> int:
    """How many windows fit along a side: floor((side + 2 padding - patch_size) / stride) + 1."""
    return (side + 2 * padding - patch_size) // stride + 1


class SoftSplit(nn.Module):
    """Concatenate the pixels of each patch of side `patch_size`, taken every `stride` pixels, into one token."""

    def __init__(self, *, patch_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.patch_size, self.stride, self.padding = patch_size, stride, padding

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, C, height, width] -> [B, N, C * patch_size^2]."""
        return F.unfold(image_BCHW, self.patch_size, padding=self.padding, stride=self.stride).transpose(1, 2)

    def project(self, x_BCHW: Tensor, linear: nn.Linear, norm: nn.LayerNorm | None = None) -> Tensor:
        """linear(norm(self(x))): [B, C, height, width] -> [B, N, linear.out_features].

        The tokens hold every pixel up to forty-nine times. Training lays them out again on the way back rather than
        keep them; inference on a CPU lays out those of one image at a time.
        """
        if runs_eagerly(x_BCHW) and x_BCHW.device.type == "cpu" and not torch.is_grad_enabled():
            return torch.cat([self._project(x_1CHW, linear, norm) for x_1CHW in torch.split(x_BCHW, 1)])
        return self._project(x_BCHW, linear, norm)

    def _project(self, x_BCHW: Tensor, linear: nn.Linear, norm: nn.LayerNorm | None) -> Tensor:
        laid: list[Tensor] = []  # on the way back, from the linear map on to the norm

        def tokens() -> Tensor:
            return laid.pop() if laid else self(x_BCHW).contiguous()

        def normed() -> Tensor:
            if norm is None:
                return tokens()
            laid[:] = [tokens()]
            return norm(laid[0])  # type: ignore[no-any-return]

        x_BNC = tokens()
        if norm is not None:
            with recomputed(x_BNC, tokens):
                x_BNC = norm(x_BNC)
        with recomputed(x_BNC, normed):
            return linear(x_BNC)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"patch_size={self.patch_size}, stride={self.stride}, padding={self.padding}"
