"""Tokens-to-token: from an image to the tokens that the backbone reads (Section 3.1, Figure 4 of the paper)."""

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

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> [B, N, embed_dim]."""
        x_BCHW = image_BCHW
        for index in range(self.stages - 1):
            soft_split, attention = (
                self.get_submodule(f"soft_split{index}"),
                self.get_submodule(f"attention{index + 1}"),
            )
            assert isinstance(soft_split, SoftSplit)
            grid = soft_split.grid(*x_BCHW.shape[2:])
            x_BCHW = attention(soft_split(x_BCHW)).transpose(1, 2).unflatten(2, grid)
        return self.project(self.get_submodule(f"soft_split{self.stages - 1}")(x_BCHW))  # type: ignore[no-any-return]
