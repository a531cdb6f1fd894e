"""From an image to the tokens that the backbone reads (Section 3.1, Figure 4 of the paper)."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from t2tbuild.modules.soft_split import SoftSplit


class T2TTokenizer(nn.Module):
    """Soft splits with token attentions between them, then a projection to the backbone's width.

    Each token attention gives `dim` channels; its tokens are laid out as a map again ("re-structurisation") and split
    by the next soft split. Any image that gives every stage a token is taken, rectangular ones too: the grids follow
    from the map's size, never from a square root.
    """

    def __init__(
        self, *, soft_splits: Sequence[SoftSplit], attentions: Sequence[nn.Module], project: nn.Linear
    ) -> None:
        super().__init__()
        self.stages = len(soft_splits)
        for index, soft_split in enumerate(soft_splits):
            self.add_module(f"soft_split{index}", soft_split)
        for index, attention in enumerate(attentions):
            self.add_module(f"attention{index + 1}", attention)
        self.project = project

    @property
    def _soft_splits(self) -> list[SoftSplit]:
        return [module for module in self.children() if isinstance(module, SoftSplit)]

    @property
    def reduction(self) -> int:
        """Pixels between neighbouring tokens: the product of all strides."""
        return math.prod(soft_split.stride for soft_split in self._soft_splits)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens for an image of the given size."""
        for soft_split in self._soft_splits:
            height, width = soft_split.grid(height, width)
        return height, width

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> [B, N, embed_dim]."""
        x_BCHW = image_BCHW
        *below, last = self._soft_splits
        for index, soft_split in enumerate(below):
            grid = soft_split.grid(x_BCHW.shape[2], x_BCHW.shape[3])
            attention = self.get_submodule(f"attention{index + 1}")
            x_BCHW = attention(soft_split(x_BCHW)).transpose(1, 2).unflatten(2, grid)
        return self.project(last(x_BCHW))  # type: ignore[no-any-return]


class ConvTokenizer(nn.Module):
    """Convolutions one after another, the last to the backbone's width; one alone is the hard split of the ViT."""

    def __init__(self, *, convolutions: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        *below, last = convolutions
        for index, convolution in enumerate(below):
            self.add_module(f"soft_split{index}", convolution)
        self.project = last

    @property
    def _convolutions(self) -> list[nn.Conv2d]:
        return [module for module in self.children() if isinstance(module, nn.Conv2d)]

    @property
    def reduction(self) -> int:
        """Pixels between neighbouring tokens: the product of all strides."""
        return math.prod(convolution.stride[0] for convolution in self._convolutions)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens for an image of the given size."""
        for convolution in self._convolutions:
            kernel, stride, padding = convolution.kernel_size[0], convolution.stride[0], int(convolution.padding[0])
            height, width = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
        return height, width

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> [B, N, embed_dim]."""
        x_BCHW = image_BCHW
        for convolution in self._convolutions:
            x_BCHW = convolution(x_BCHW)
        return x_BCHW.flatten(2).transpose(1, 2)
