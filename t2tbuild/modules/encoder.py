"""The encoder: tokenizer, prefix tokens, position embedding, blocks and norm; and its intermediate features."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from t2tbuild.modules.position import resize_position
from t2tbuild.modules.tokenizers import Tokenizer


class T2TEncoder(nn.Module):
    """Map an image to normalised tokens, the prefix tokens first.

    Args:
        tokens_to_token: Maps an image to N tokens of `embed_dim` channels.
        blocks: The blocks of the backbone.
        block_dims: The output channels of each entry of `blocks`; they differ in the dense backbone only.
        input_size: The size of the image as (channels, height, width).
        pos_embed: [1, P + N, embed_dim], the rows of the prefix tokens first. A fixed table is a frozen parameter, so
            that it is saved with the weights under the released code's name.
        num_prefix_tokens: 1 for the class token, 2 with DeiT's distillation token after it.
    """

    dist_token: nn.Parameter | None

    def __init__(
        self,
        *,
        tokens_to_token: Tokenizer,
        blocks: Sequence[nn.Module],
        block_dims: Sequence[int],
        input_size: tuple[int, int, int],
        pos_embed: nn.Parameter,
        num_prefix_tokens: int = 1,
    ) -> None:
        super().__init__()
        self.input_size, self.grid = input_size, tokens_to_token.grid(*input_size[1:])
        self.embed_dim, self.num_features = pos_embed.shape[2], block_dims[-1]
        self.num_prefix_tokens = num_prefix_tokens
        self.grad_checkpointing = False
        self.feature_info = [
            {"module": f"blocks.{index}", "num_chs": channels, "reduction": tokens_to_token.reduction}
            for index, channels in enumerate(block_dims)
        ]
        self.tokens_to_token = tokens_to_token
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dim))
        self.pos_embed = pos_embed
        dist_token = nn.Parameter(torch.zeros(1, 1, self.embed_dim)) if num_prefix_tokens == 2 else None
        self.register_parameter("dist_token", dist_token)
        self.blocks = nn.ModuleList(blocks)
        self.norm: nn.Module = nn.LayerNorm(self.num_features)

    def forward_features(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> [B, P + N, num_features], after the final norm, the prefix tokens first.

        Raises AssertionError if the image does not have the model's size.
        """
        x_BNC = self._embed(image_BCHW)
        for block in self.blocks:
            x_BNC = self._run_module(block, x_BNC)
        return self.norm(x_BNC)  # type: ignore[no-any-return]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
    ) -> Any:
        """Return the features of intermediate blocks, with the interface of timm's models.

        Args:
            x: Images [B, in_chans, height, width].
            indices: The blocks: None for all, n for the last n, or a list of indices; negative ones count from the end.
            return_prefix_tokens: Pair each map with the prefix tokens [B, P, C].
            norm: Apply the final norm to each map.
            stop_early: Do not run the blocks after the last one of `indices`.
            output_fmt: "NCHW" for maps [B, C, rows, columns], "NLC" for [B, N, C].
            intermediates_only: Return the maps alone instead of (normalised tokens, maps).
            output_dict: Return a dict instead of a tuple.

        Raises ValueError on any other `output_fmt`, on an index without a block, and on `norm` if the norm has another
        width than one of the blocks, as in the dense backbone.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt must be NCHW or NLC, got {output_fmt!r}")
        selected = self._block_indices(indices)
        if norm and any(self.feature_info[index]["num_chs"] != self.num_features for index in selected):
            raise ValueError(f"the final norm has {self.num_features} channels, and one of the blocks another number")
        y_BNC, tokens = self._embed(x), {}
        for index, block in enumerate(self.blocks[: max(selected) + 1] if stop_early else self.blocks):
            y_BNC = self._run_module(block, y_BNC)
            if index in selected:
                tokens[index] = self.norm(y_BNC) if norm else y_BNC
        prefixes = [tokens[index][:, : self.num_prefix_tokens] for index in selected]
        maps = [tokens[index][:, self.num_prefix_tokens :] for index in selected]
        if output_fmt == "NCHW":
            maps = [map_BNC.transpose(1, 2).unflatten(2, self.grid).contiguous() for map_BNC in maps]
        if output_dict:
            output: dict[str, Any] = {"image_intermediates": maps}
            if return_prefix_tokens:
                output["image_intermediates_prefix"] = prefixes
            return output if intermediates_only else output | {"image_features": self.norm(y_BNC)}
        intermediates = list(zip(maps, prefixes, strict=True)) if return_prefix_tokens else maps
        return intermediates if intermediates_only else (self.norm(y_BNC), intermediates)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turn gradient checkpointing of the tokenizer and of each block on or off."""
        self.grad_checkpointing = enable

    def set_input_size(
        self, img_size: int | tuple[int, int] | None = None, patch_size: int | tuple[int, int] | None = None
    ) -> None:
        """Set the size of the images in pixels: an int, or (height, width). Interpolates the position embedding.

        Sinusoids are interpolated too: trained blocks recognise a position by its vector, and a new table would give
        that vector to another position. Raises ValueError if the image is too small for one token, and on any
        `patch_size`, because a tokenizer has several.
        """
        if patch_size is not None:
            raise ValueError("patch_size cannot be changed; the spec of the tokenizer sets its windows")
        if img_size is None:
            return
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        grid = self.tokens_to_token.grid(height, width)
        if min(grid) < 1:
            raise ValueError(f"an image of {height} x {width} pixels is too small for one token")
        if grid != self.grid:
            table_1NC, prefix = self.pos_embed.detach(), self.num_prefix_tokens
            self.pos_embed.data = resize_position(table_1NC, self.grid, grid, prefix=prefix)
        self.input_size, self.grid = (self.input_size[0], height, width), grid

    def _embed(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> [B, P + N, embed_dim]: prefix tokens and tokens plus position embedding."""
        require_size(image_BCHW, self.input_size)
        x_BNC = self._run_module(self.tokens_to_token, image_BCHW)
        prefix = [self.cls_token] if self.dist_token is None else [self.cls_token, self.dist_token]
        prefix_B1C = [token_11C.expand(x_BNC.shape[0], -1, -1) for token_11C in prefix]
        return torch.cat((*prefix_B1C, x_BNC), dim=1) + self.pos_embed

    def _run_module(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return module(x), in training with gradient checkpointing if that is on."""
        if self.grad_checkpointing and self.training:
            return checkpoint(module, x, use_reentrant=False)  # type: ignore[no-any-return]
        return module(x)  # type: ignore[no-any-return]

    def _block_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        """Return the indices of the selected blocks, counted from the start."""
        count = len(self.blocks)
        if indices is None:
            return list(range(count))
        selected = list(range(-indices, 0)) if isinstance(indices, int) else list(indices)
        if not selected or not all(-count <= index < count for index in selected):
            raise ValueError(f"there are {count} blocks, got indices {indices!r}")
        return [index % count for index in selected]


def require_size(image_BCHW: Tensor, input_size: tuple[int, int, int]) -> None:
    """Raise AssertionError if the images do not have the size (channels, height, width)."""
    if image_BCHW.shape[1:] != input_size:
        raise AssertionError(f"the model takes images of {input_size}, not {tuple(image_BCHW.shape[1:])}")


torch.fx.wrap("require_size")  # one node of a symbolic trace, where the size is unknown
