"""The whole model: the trunk and its head (Figure 4 of the paper), with the methods that timm's models have."""

from collections.abc import Sequence

from torch import Tensor, nn

from t2tbuild.layout import Part
from t2tbuild.modules.encoder import T2TEncoder
from t2tbuild.modules.tokenizers import Tokenizer

INIT_STD = 0.02
POOLS = ("token", "avg", "")


class T2TViT(T2TEncoder):
    """Image classifier: the head reads the normed class token, with `global_pool="avg"` the mean of the image's tokens.

    With a distillation token (`num_prefix_tokens=2`) a second head, `head_dist`, reads that token, or the same mean,
    and the logits are the mean of both heads' (Touvron et al., "Training data-efficient image transformers &
    distillation through attention", 2021, Section 4). In training with `distilled_training` on, both heads' logits are
    given as a pair, one for each loss. `parts` are the rows under which the model's cost is told.
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
        """[B, in_chans, height, width] -> logits [B, num_classes]; the pair of both heads' in distilled training."""
        return self.forward_head(self.forward_features(image_BCHW))

    def forward_head(self, x_BNC: Tensor, pre_logits: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """[B, P + N, num_features] -> logits as `forward` gives them, or what the head reads with `pre_logits`.

        Of two heads that is the mean of what each reads.
        """
        read: Tensor = self.head_drop(self._pool(x_BNC, 0))
        if self.head_dist is None:
            return read if pre_logits else self.head(read)
        read_dist: Tensor = self.head_drop(self._pool(x_BNC, 1))
        if pre_logits:
            return (read + read_dist) / 2
        logits: Tensor = self.head(read)
        logits_dist: Tensor = self.head_dist(read_dist)
        if self.distilled_training and self.training:
            return logits, logits_dist
        return (logits + logits_dist) / 2

    def _pool(self, x_BNC: Tensor, index: int) -> Tensor:
        """What the head of a prefix token reads: that token, the mean of the image's tokens, or all of them."""
        match self.global_pool:
            case "token":
                return x_BNC[:, index]
            case "avg":
                return x_BNC[:, self.num_prefix_tokens :].mean(dim=1)
            case _:
                return x_BNC

    def set_distilled_training(self, enable: bool = True) -> None:
        """Whether training gives the pair of both heads' logits rather than their mean.

        Raises ValueError where there is no distillation token.
        """
        if enable and self.head_dist is None:
            raise ValueError("the model has no distillation token; write distillation_token: true in its spec")
        self.distilled_training = enable

    def get_classifier(self) -> nn.Module | tuple[nn.Module, nn.Module]:
        """The head; with a distillation token the pair of heads."""
        return self.head if self.head_dist is None else (self.head, self.head_dist)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the model a fresh head, or two; none with 0 classes, so that it gives what the head would read.

        `global_pool` is `token`, `avg`, or empty for all tokens. Raises ValueError on any other.
        """
        if global_pool is not None and global_pool not in POOLS:
            raise ValueError(f"global_pool must be one of {', '.join(map(repr, POOLS))}, got {global_pool!r}")
        self.global_pool = self.global_pool if global_pool is None else global_pool
        self.num_classes = num_classes
        self.head = self._new_head()
        if self.head_dist is not None:
            self.head_dist = self._new_head()

    def _new_head(self) -> nn.Module:
        if not self.num_classes:
            return nn.Identity()
        beside = self.cls_token
        head = nn.Linear(self.num_features, self.num_classes, device=beside.device, dtype=beside.dtype)
        _init_linear(head)
        return head

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the given blocks' features do not need; gives the blocks' numbers.

        The norm goes, too, where the last block that is left has another width, as in the dense backbone.
        """
        taken = self._taken(indices)
        self.blocks = self.blocks[: max(taken) + 1]
        if prune_norm or self.feature_info[max(taken)]["num_chs"] != self.num_features:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return taken

    def set_input_size(
        self, img_size: int | tuple[int, int] | None = None, patch_size: int | tuple[int, int] | None = None
    ) -> None:
        """As Trunk's; what the parts give out is then no longer known."""
        super().set_input_size(img_size, patch_size)
        self.parts = [part._replace(grid=None, tokens=None) for part in self.parts]

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that timm's optimiser must not decay, beside biases and norms."""
        return {"cls_token", "pos_embed"} | ({"dist_token"} if self.head_dist is not None else set())

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:  # noqa: ARG002
        """Regular expressions that sort parameters into layers, for timm's layer-wise learning rates."""
        return {
            "stem": r"^cls_token|^dist_token|^pos_embed|^tokens_to_token",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
