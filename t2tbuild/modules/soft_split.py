"""Soft split: overlapping patches become tokens (Section 3.1, Equations 2 and 3 of the paper)."""

import torch.nn.functional as F
from torch import Tensor, nn


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

    def extra_repr(self) -> str:
        return f"patch_size={self.patch_size}, stride={self.stride}, padding={self.padding}"
