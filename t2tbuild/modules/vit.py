"""The complete model: encoder and classifier head (Figure 4 of the paper), with the interface of timm's models."""

from collections.abc import Sequence

from torch import Tensor, nn

from t2tbuild.layout import Part
from t2tbuild.modules.encoder import T2TEncoder
from t2tbuild.modules.tokenizers import Tokenizer

INIT_STD = 0.02
POOLS = ("token", "avg", "")


class T2TViT(T2TEncoder):
    """An image classifier. The head reads the class token, or with `global_pool="avg"` the mean of the image's tokens.

    With a distillation token (`num_prefix_tokens=2`), a second head, `head_dist`, reads that token or the same mean,
    and the logits are the mean of both heads (Touvron et al., "Training data-efficient image transformers &
    distillation through attention", 2021, Section 4). If `distilled_training` is on, training returns the logits of the
    two heads as a pair, one for each loss. `parts` are the rows of the model's cost table.
    """

    parts: Sequence[Part] = ()

    def __init__(
        self,
        *,
        tokens_to_token: Tokenizer,
        blocks: Sequence[nn.Module],
        block_dims: Sequence[int],
        input_size: tuple[int, int, int],
        pos_embed: nn.Parameter,
        num_classes: int,
        num_prefix_tokens: int = 1,
    ) -> None:
        super().__init__(
            tokens_to_token=tokens_to_token,
            blocks=blocks,
            block_dims=block_dims,
            input_size=input_size,
            pos_embed=pos_embed,
            num_prefix_tokens=num_prefix_tokens,
        )
        self.num_classes, self.global_pool, self.distilled_training = num_classes, "token", False
        self.head_hidden_size = self.num_features
        self.head_drop = nn.Dropout(0.0)
        self.head: nn.Module = nn.Linear(self.num_features, num_classes)
        self.head_dist: nn.Module | None = None
        nn.init.trunc_normal_(self.cls_token, std=INIT_STD)
        if self.dist_token is not None:
            self.head_dist = nn.Linear(self.num_features, num_classes)
            nn.init.trunc_normal_(self.dist_token, std=INIT_STD)
        self.apply(_init_linear)

    def forward(self, image_BCHW: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """[B, in_chans, height, width] -> logits [B, num_classes]; in distilled training, the pair of both heads."""
        return self.forward_head(self.forward_features(image_BCHW))

    def forward_head(self, x_BNC: Tensor, pre_logits: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """[B, P + N, num_features] -> logits as `forward` returns them; with `pre_logits`, the input of the head.

        With two heads, that is the mean of their inputs.
        """
        pooled: Tensor = self.head_drop(self._pool(x_BNC, 0))
        if self.head_dist is None:
            return pooled if pre_logits else self.head(pooled)
        pooled_dist: Tensor = self.head_drop(self._pool(x_BNC, 1))
        if pre_logits:
            return (pooled + pooled_dist) / 2
        logits: Tensor = self.head(pooled)
        logits_dist: Tensor = self.head_dist(pooled_dist)
        if self.distilled_training and self.training:
            return logits, logits_dist
        return (logits + logits_dist) / 2

    def _pool(self, x_BNC: Tensor, index: int) -> Tensor:
        """Return the input of the head of prefix token `index`: that token, the mean of the image's tokens, or all."""
        match self.global_pool:
            case "token":
                return x_BNC[:, index]
            case "avg":
                return x_BNC[:, self.num_prefix_tokens :].mean(dim=1)
            case _:
                return x_BNC

    def set_distilled_training(self, enable: bool = True) -> None:
        """Choose whether training returns the logits of both heads as a pair instead of their mean.

        Raises ValueError if the model has no distillation token.
        """
        if enable and self.head_dist is None:
            raise ValueError("the model has no distillation token; write distillation_token: true in its spec")
        self.distilled_training = enable

    def get_classifier(self) -> nn.Module | tuple[nn.Module, nn.Module]:
        """Return the head; with a distillation token, the pair of heads."""
        return self.head if self.head_dist is None else (self.head, self.head_dist)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head, or both heads, by a randomly initialised one; with 0 classes, by the identity.

        `global_pool` is "token", "avg", or "" for all tokens. Raises ValueError on any other.
        """
        if global_pool is not None and global_pool not in POOLS:
            raise ValueError(f"global_pool must be one of {', '.join(map(repr, POOLS))}, got {global_pool!r}")
        self.global_pool = self.global_pool if global_pool is None else global_pool
        self.num_classes = num_classes
        self.head = self._build_head()
        if self.head_dist is not None:
            self.head_dist = self._build_head()

    def _build_head(self) -> nn.Module:
        if not self.num_classes:
            return nn.Identity()
        device, dtype = self.cls_token.device, self.cls_token.dtype
        head = nn.Linear(self.num_features, self.num_classes, device=device, dtype=dtype)
        _init_linear(head)
        return head

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the blocks after the last of `indices`, and return the indices counted from the start.

        Removes the norm as well if it has another width than the last remaining block, as in the dense backbone.
        """
        selected = self._block_indices(indices)
        self.blocks = self.blocks[: max(selected) + 1]
        if prune_norm or self.feature_info[max(selected)]["num_chs"] != self.num_features:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return selected

    def set_input_size(
        self, img_size: int | tuple[int, int] | None = None, patch_size: int | tuple[int, int] | None = None
    ) -> None:
        """Set the size of the images as T2TEncoder does. The grids in `parts` are unknown afterwards."""
        super().set_input_size(img_size, patch_size)
        self.parts = [part._replace(grid=None, tokens=None) for part in self.parts]

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that timm's optimiser must not decay, besides biases and norms."""
        return {"cls_token", "pos_embed"} | ({"dist_token"} if self.head_dist is not None else set())

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:  # noqa: ARG002
        """Return regular expressions that group parameters by layer, for timm's layer-wise learning rates."""
        return {
            "stem": r"^cls_token|^dist_token|^pos_embed|^tokens_to_token",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
