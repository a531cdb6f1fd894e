"""Soft split: overlapping patches become tokens (Section 3.1, Equations 2 and 3 of the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.recompute import recomputed, runs_eagerly
from t2tbuild.modules.recompute_policy import images_at_once


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

        The tokens hold every pixel up to forty-nine times. Training lays large ones out again on the way back rather
        than keep them; inference on a CPU lays out those of a few images at a time, which is what hooks then see.
        """
        if runs_eagerly(x_BCHW) and x_BCHW.device.type == "cpu" and not torch.is_grad_enabled():
            parts = torch.split(x_BCHW, images_at_once(self._bytes_of_one(x_BCHW)))
            if len(parts) > 1:
                return torch.cat([self._project(part_BCHW, linear, norm) for part_BCHW in parts])
        return self._project(x_BCHW, linear, norm)

    def _bytes_of_one(self, x_BCHW: Tensor) -> int:
        """What the tokens of an image take."""
        rows, columns = (windows_along(side, self.patch_size, self.stride, self.padding) for side in x_BCHW.shape[2:])
        return rows * columns * x_BCHW.shape[1] * self.patch_size**2 * x_BCHW.element_size()

    def _project(self, x_BCHW: Tensor, linear: nn.Linear, norm: nn.LayerNorm | None) -> Tensor:
        x_BNC, again = self(x_BCHW).contiguous(), _Again(self, x_BCHW, norm)
        if norm is not None:
            with recomputed(x_BNC, again.tokens, of=x_BCHW):
                x_BNC = norm(x_BNC)
        with recomputed(x_BNC, again.normed, of=x_BCHW):
            return linear(x_BNC)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"patch_size={self.patch_size}, stride={self.stride}, padding={self.padding}"


class _Again:
    """The tokens of a map and their norms, made anew; on the way back the norm takes what the linear map left."""

    def __init__(self, split: SoftSplit, x_BCHW: Tensor, norm: nn.LayerNorm | None) -> None:
        self.split, self.x_BCHW, self.norm = split, x_BCHW, norm
        self.laid: list[Tensor] = []

    def tokens(self) -> Tensor:
        return self.laid.pop() if self.laid else self.split.forward(self.x_BCHW).contiguous()

    def normed(self) -> Tensor:
        if self.norm is None:
            return self.tokens()
        self.laid = [self.tokens()]
        return self.norm.forward(self.laid[0])
