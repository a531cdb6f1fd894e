"""Tokenizers: from an image to the tokens of the backbone (Section 3.1, Figure 4 of the paper)."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from t2tbuild.modules.soft_split import SoftSplit, num_windows


class Tokenizer(nn.Module):
    """Base class: a sequence of windows (patch size, stride, padding), the first over the image.

    Each window slides over the grid of the one before it. Images may be rectangular; each window needs at least one
    token.
    """

    def __init__(self, windows: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.windows = tuple(windows)

    @property
    def reduction(self) -> int:
        """The distance of neighbouring tokens in pixels: the product of all strides."""
        return math.prod(stride for _, stride, _ in self.windows)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of tokens for an image of the given size in pixels."""
        for window in self.windows:
            height, width = num_windows(height, *window), num_windows(width, *window)
        return height, width


class T2TTokenizer(Tokenizer):
    """Soft splits with a token attention between each two, then a projection to the backbone's width.

    The output tokens of a token attention are reshaped to a feature map ("re-structurisation"), which the next soft
    split reads.
    """

    def __init__(
        self, *, soft_splits: Sequence[SoftSplit], attentions: Sequence[nn.Module], project: nn.Linear
    ) -> None:
        super().__init__([(split.patch_size, split.stride, split.padding) for split in soft_splits])
        for index, soft_split in enumerate(soft_splits):
            self.add_module(f"soft_split{index}", soft_split)
        for index, attention in enumerate(attentions):
            self.add_module(f"attention{index + 1}", attention)
        self.project = project

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> [B, N, embed_dim]."""
        x_BCHW, last = image_BCHW, len(self.windows) - 1
        for index, window in enumerate(self.windows[:last]):
            grid = num_windows(x_BCHW.shape[2], *window), num_windows(x_BCHW.shape[3], *window)
            attention = self.get_submodule(f"attention{index + 1}")
            x_BCHW = attention(x_BCHW, self.get_submodule(f"soft_split{index}")).transpose(1, 2).unflatten(2, grid)
        return self.get_submodule(f"soft_split{last}").project(x_BCHW, self.project)  # type: ignore[operator, no-any-return]


class ConvTokenizer(Tokenizer):
    """A sequence of convolutions, the last to the backbone's width. A single one is the patch embedding of the ViT."""

    def __init__(self, *, convolutions: Sequence[nn.Conv2d]) -> None:
        super().__init__([(conv.kernel_size[0], conv.stride[0], int(conv.padding[0])) for conv in convolutions])
        *below, last = convolutions
        for index, convolution in enumerate(below):
            self.add_module(f"soft_split{index}", convolution)
        self.project = last

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> [B, N, embed_dim]."""
        x_BCHW = image_BCHW
        for convolution in self.children():
            x_BCHW = convolution(x_BCHW)
        return x_BCHW.flatten(2).transpose(1, 2)
