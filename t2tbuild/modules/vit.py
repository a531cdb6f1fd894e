"""The whole model: the trunk and its head (Figure 4 of the paper), with the methods that timm's models have."""

from collections.abc import Sequence

from torch import Tensor, nn

from t2tbuild.modules.tokenizers import Tokenizer
from t2tbuild.modules.trunk import Trunk
from t2tbuild.parts import Part

INIT_STD = 0.02
POOLS = ("token", "avg", "")


class T2TViT(Trunk):
    """Image classifier: the head reads the normed class token.

    With `global_pool="avg"` it reads the mean of the other tokens. `parts` are the rows under which the model's cost is
    told.
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
    ) -> None:
        super().__init__(
            tokens_to_token=tokens_to_token,
            blocks=blocks,
            block_dims=block_dims,
            input_size=input_size,
            pos_embed=pos_embed,
        )
        self.num_classes, self.global_pool = num_classes, "token"
        self.head_hidden_size = self.num_features
        self.head_drop = nn.Dropout(0.0)
        self.head: nn.Module = nn.Linear(self.num_features, num_classes)
        nn.init.trunc_normal_(self.cls_token, std=INIT_STD)
        self.apply(_init_linear)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> logits [B, num_classes]."""
        return self.forward_head(self.forward_features(image_BCHW))

    def forward_head(self, x_BNC: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, 1 + N, num_features] -> logits [B, num_classes], or what the head reads with `pre_logits`."""
        if self.global_pool == "token":
            x_BNC = x_BNC[:, 0]
        elif self.global_pool == "avg":
            x_BNC = x_BNC[:, 1:].mean(dim=1)
        x_BNC = self.head_drop(x_BNC)
        return x_BNC if pre_logits else self.head(x_BNC)

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the model a fresh head; none with 0 classes, so that it gives what the head would read.

        `global_pool` is `token`, `avg`, or empty for all tokens. Raises ValueError on any other.
        """
        if global_pool is not None and global_pool not in POOLS:
            raise ValueError(f"global_pool must be one of {', '.join(map(repr, POOLS))}, got {global_pool!r}")
        self.global_pool = self.global_pool if global_pool is None else global_pool
        self.num_classes = num_classes
        beside = self.cls_token
        self.head = nn.Identity()
        if num_classes:
            self.head = nn.Linear(self.num_features, num_classes, device=beside.device, dtype=beside.dtype)
            _init_linear(self.head)

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
        return {"cls_token", "pos_embed"}

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:  # noqa: ARG002
        """Regular expressions that sort parameters into layers, for timm's layer-wise learning rates."""
        return {
            "stem": r"^cls_token|^pos_embed|^tokens_to_token",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
