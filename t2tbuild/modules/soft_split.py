"""Soft split: overlapping patches become tokens (Section 3.1, Equations 2 and 3 of the paper)."""

import torch.nn.functional as F
from torch import Tensor, nn


class SoftSplit(nn.Module):
    """Concatenate the pixels of each patch of side `patch_size`, taken every `stride` pixels, into one token.

    Tokens = floor((height + 2 * padding - patch_size) / stride + 1) * the same of the width.
    """

    def __init__(self, *, patch_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.patch_size, self.stride, self.padding = patch_size, stride, padding

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, C, height, width] -> [B, N, C * patch_size^2]."""
        return F.unfold(image_BCHW, self.patch_size, padding=self.padding, stride=self.stride).transpose(1, 2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens for a map of the given size."""
        rows, columns = ((side + 2 * self.padding - self.patch_size) // self.stride + 1 for side in (height, width))
        return rows, columns

    def extra_repr(self) -> str:
        return f"patch_size={self.patch_size}, stride={self.stride}, padding={self.padding}"
