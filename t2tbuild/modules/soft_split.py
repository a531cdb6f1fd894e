"""Soft split: overlapping patches become tokens (Section 3.1, Equations 2 and 3 of the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.recompute import is_eager, recompute_in_backward
from t2tbuild.modules.recompute_policy import images_per_chunk


def num_windows(side: int, patch_size: int, stride: int, padding: int) -> int:
    """Return how many windows fit along one side: floor((side + 2 padding - patch_size) / stride) + 1."""
    return (side + 2 * padding - patch_size) // stride + 1


class SoftSplit(nn.Module):
    """Concatenate the pixels of each square patch into one token; a patch starts every `stride` pixels."""

    def __init__(self, *, patch_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.patch_size, self.stride, self.padding = patch_size, stride, padding

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, C, height, width] -> [B, N, C * patch_size^2]."""
        return F.unfold(image_BCHW, self.patch_size, padding=self.padding, stride=self.stride).transpose(1, 2)

    def project(self, x_BCHW: Tensor, linear: nn.Linear, norm: nn.LayerNorm | None = None) -> Tensor:
        """Return linear(norm(self(x))): [B, C, height, width] -> [B, N, linear.out_features].

        The tokens hold each pixel up to 49 times. Training recomputes large ones in the backward pass instead of saving
        them. Inference on a CPU processes a few images at a time, so module hooks see parts of the batch.
        """
        if is_eager(x_BCHW) and x_BCHW.device.type == "cpu" and not torch.is_grad_enabled():
            chunks = torch.split(x_BCHW, images_per_chunk(self._bytes_per_image(x_BCHW)))
            if len(chunks) > 1:
                return torch.cat([self._project(chunk_BCHW, linear, norm) for chunk_BCHW in chunks])
        return self._project(x_BCHW, linear, norm)

    def _bytes_per_image(self, x_BCHW: Tensor) -> int:
        """Return the size of one image's tokens."""
        rows, columns = (num_windows(side, self.patch_size, self.stride, self.padding) for side in x_BCHW.shape[2:])
        return rows * columns * x_BCHW.shape[1] * self.patch_size**2 * x_BCHW.element_size()

    def _project(self, x_BCHW: Tensor, linear: nn.Linear, norm: nn.LayerNorm | None) -> Tensor:
        x_BNC, recompute = self(x_BCHW).contiguous(), _RecomputeTokens(self, x_BCHW, norm)
        if norm is not None:
            with recompute_in_backward(x_BNC, recompute.tokens, source=x_BCHW):
                x_BNC = norm(x_BNC)
        with recompute_in_backward(x_BNC, recompute.normalized, source=x_BCHW):
            return linear(x_BNC)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"patch_size={self.patch_size}, stride={self.stride}, padding={self.padding}"


class _RecomputeTokens:
    """Recompute the tokens of a feature map, and their normalised values.

    The backward pass reaches the linear layer first and the norm after it. The tokens that are unfolded for the linear
    layer are kept for the norm.
    """

    def __init__(self, split: SoftSplit, x_BCHW: Tensor, norm: nn.LayerNorm | None) -> None:
        self.split, self.x_BCHW, self.norm = split, x_BCHW, norm
        self.cached: list[Tensor] = []

    def tokens(self) -> Tensor:
        return self.cached.pop() if self.cached else self.split.forward(self.x_BCHW).contiguous()

    def normalized(self) -> Tensor:
        if self.norm is None:
            return self.tokens()
        self.cached = [self.tokens()]
        return self.norm.forward(self.cached[0])
