"""What comes before the head: tokenizer, prefix tokens, position, blocks, norm; and the feature maps on the way."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from t2tbuild.modules.position import resize_position
from t2tbuild.modules.tokenizers import Tokenizer


class T2TEncoder(nn.Module):
    """An image to normed tokens, the prefix tokens first.

    `num_prefix_tokens` is 1 for the class token, and 2 with DeiT's distillation token after it. `block_dims` are the
    channels that each entry of `blocks` gives out; they differ in the dense backbone only. `pos_embed` is
    [1, P + N, embed_dim], the rows of the P prefix tokens first; a fixed table is a frozen parameter, so that it is
    saved with the weights under the released code's name.
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
        """[B, in_chans, height, width] -> [B, P + N, num_features], normed, the prefix tokens first.

        Raises AssertionError on an image of another size than the model's.
        """
        x_BNC = self._embed(image_BCHW)
        for block in self.blocks:
            x_BNC = self._run(block, x_BNC)
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
        """Features of blocks on the way, as timm's models give them.

        `x` is [B, in_chans, height, width]; `indices` are all blocks, the last n (an int) or those listed, negative
        ones from the end. A map is [B, C, rows, columns], or [B, N, C] with `output_fmt="NLC"`; `norm` applies the
        final norm to each. `stop_early` leaves out the blocks after the last that is wanted. Gives (normed tokens,
        maps), the maps alone with `intermediates_only`, or a dict with `output_dict`; `return_prefix_tokens` puts the
        prefix tokens [B, P, C] beside each map.

        Raises ValueError on another `output_fmt`, on a block that is not there, and on `norm` where a block is of
        another width than the norm, as in the dense backbone.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt must be NCHW or NLC, got {output_fmt!r}")
        taken = self._taken(indices)
        if norm and any(self.feature_info[index]["num_chs"] != self.num_features for index in taken):
            raise ValueError(f"the final norm takes {self.num_features} channels; a wanted block gives another number")
        y_BNC, tokens = self._embed(x), {}
        for index, block in enumerate(self.blocks[: max(taken) + 1] if stop_early else self.blocks):
            y_BNC = self._run(block, y_BNC)
            if index in taken:
                tokens[index] = self.norm(y_BNC) if norm else y_BNC
        prefixes = [tokens[index][:, : self.num_prefix_tokens] for index in taken]
        maps = [tokens[index][:, self.num_prefix_tokens :] for index in taken]
        if output_fmt == "NCHW":
            maps = [map_BNC.transpose(1, 2).unflatten(2, self.grid).contiguous() for map_BNC in maps]
        if output_dict:
            found: dict[str, Any] = {"image_intermediates": maps}
            if return_prefix_tokens:
                found["image_intermediates_prefix"] = prefixes
            return found if intermediates_only else found | {"image_features": self.norm(y_BNC)}
        inside = list(zip(maps, prefixes, strict=True)) if return_prefix_tokens else maps
        return inside if intermediates_only else (self.norm(y_BNC), inside)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether training computes the inside of the tokenizer and of each block again rather than keep it."""
        self.grad_checkpointing = enable

    def set_input_size(
        self, img_size: int | tuple[int, int] | None = None, patch_size: int | tuple[int, int] | None = None
    ) -> None:
        """Let the model take images of another size in pixels: the position embedding is interpolated to the new grid.

        Sinusoids too: trained blocks know a place by its old vector, which the table of a new grid gives to another.
        Raises ValueError when the image leaves no token, and on any `patch_size`, which our tokenizers have several of.
        """
        if patch_size is not None:
            raise ValueError("patch_size cannot be changed; the tokenizer's windows are those of its spec")
        if img_size is None:
            return
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        grid = self.tokens_to_token.grid(height, width)
        if min(grid) < 1:
            raise ValueError(f"an image of {height} x {width} leaves no token")
        if grid != self.grid:
            table_1NC, prefix = self.pos_embed.detach(), self.num_prefix_tokens
            self.pos_embed.data = resize_position(table_1NC, self.grid, grid, prefix=prefix)
        self.input_size, self.grid = (self.input_size[0], height, width), grid

    def _embed(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> [B, P + N, embed_dim]: prefix tokens and tokens, with their positions."""
        size = image_BCHW.shape[1:]
        torch._assert(size == self.input_size, f"the model takes images of {self.input_size}; see set_input_size")
        x_BNC = self._run(self.tokens_to_token, image_BCHW)
        prefix = [self.cls_token] if self.dist_token is None else [self.cls_token, self.dist_token]
        prefix_B1C = [token_11C.expand(x_BNC.shape[0], -1, -1) for token_11C in prefix]
        return torch.cat((*prefix_B1C, x_BNC), dim=1) + self.pos_embed

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        """Run a module; with gradient checkpointing keep nothing of its inside for the backward pass."""
        if self.grad_checkpointing and self.training:
            return checkpoint(module, x, use_reentrant=False)  # type: ignore[no-any-return]
        return module(x)  # type: ignore[no-any-return]

    def _taken(self, indices: int | Sequence[int] | None) -> list[int]:
        """The numbers of the wanted blocks, counted from the start."""
        count = len(self.blocks)
        if indices is None:
            return list(range(count))
        wanted = list(range(-indices, 0)) if isinstance(indices, int) else list(indices)
        if not wanted or not all(-count <= index < count for index in wanted):
            raise ValueError(f"there are {count} blocks, got indices {indices!r}")
        return [index % count for index in wanted]
