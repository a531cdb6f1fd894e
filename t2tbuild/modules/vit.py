"""The whole model: tokenizer, class token, position, blocks, norm, head (Figure 4 of the paper)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from t2tbuild.modules.position import sinusoid_table
from t2tbuild.modules.tokenizers import T2TTokenizer
from t2tbuild.parts import Part

INIT_STD = 0.02


class T2TViT(nn.Module):
    """Image classifier: the head reads the normed class token.

    `num_tokens` counts the class token. A fixed position table is a frozen parameter, so that it is saved with the
    weights under the released code's name. `parts` are the rows under which the model's cost is told.
    """

    parts: Sequence[Part] = ()

    def __init__(
        self,
        *,
        tokens_to_token: T2TTokenizer,
        blocks: Sequence[nn.Module],
        input_size: tuple[int, int, int],
        num_tokens: int,
        embed_dim: int,
        num_classes: int,
        learned_position: bool,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.tokens_to_token = tokens_to_token
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        table = torch.zeros(1, num_tokens, embed_dim) if learned_position else sinusoid_table(num_tokens, embed_dim)
        self.pos_embed = nn.Parameter(table, requires_grad=learned_position)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        nn.init.trunc_normal_(self.cls_token, std=INIT_STD)
        if learned_position:
            nn.init.trunc_normal_(self.pos_embed, std=INIT_STD)
        self.apply(_init_linear)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that timm's optimiser must not decay, beside biases and norms."""
        return {"cls_token", "pos_embed"}

    def forward_features(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> [B, 1 + N, embed_dim], normed, the class token first.

        Raises ValueError on an image of another size than the model's.
        """
        if tuple(image_BCHW.shape[1:]) != self.input_size:
            raise ValueError(f"the model takes images of {self.input_size}, got {tuple(image_BCHW.shape[1:])}")
        x_BNC = self.tokens_to_token(image_BCHW)
        x_BNC = torch.cat((self.cls_token.expand(x_BNC.shape[0], -1, -1), x_BNC), dim=1) + self.pos_embed
        for block in self.blocks:
            x_BNC = block(x_BNC)
        return self.norm(x_BNC)  # type: ignore[no-any-return]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> logits [B, num_classes]."""
        return self.head(self.forward_features(image_BCHW)[:, 0])  # type: ignore[no-any-return]


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
