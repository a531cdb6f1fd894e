"""ModelSpec -> nn.Module: the only place that knows both sides. One function per node of the spec tree."""

from typing import assert_never

from torch import nn

from t2tbuild.modules.block import Block
from t2tbuild.modules.performer import TokenPerformer
from t2tbuild.modules.soft_split import SoftSplit
from t2tbuild.modules.token_transformer import TokenTransformer
from t2tbuild.modules.tokenizers import T2TTokenizer
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec.layout import layout
from t2tbuild.spec.model import ModelSpec, PerformerAttention, PlainBackbone, Stage, TransformerAttention


def build_model(model: ModelSpec) -> T2TViT:
    """Build a model with fresh weights from torch's global random generator.

    The module takes images [B, in_chans, height, width] and gives logits [B, num_classes]. Its `parts` are the rows
    under which its cost is told. Under `torch.device("meta")` it takes no memory, which is enough to count it.

        >>> import torch
        >>> from t2tbuild import load_spec
        >>> model = build_model(load_spec("t2t_vit_7", ["model.image_size=64"]).model)
        >>> model(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 1000])
    """
    built = T2TViT(
        tokens_to_token=_build_tokenizer(model),
        blocks=_build_blocks(model.backbone),
        input_size=(model.in_chans, *model.image),
        num_tokens=model.tokens,
        embed_dim=model.backbone.embed_dim,
        num_classes=model.num_classes,
        learned_position=model.backbone.position == "learned",
    )
    built.parts = layout(model)
    return built


def _build_tokenizer(model: ModelSpec) -> T2TTokenizer:
    widths = model.tokenizer.widths(model.in_chans)
    return T2TTokenizer(
        soft_splits=[
            SoftSplit(patch_size=stage.patch_size, stride=stage.stride, padding=stage.pad)
            for stage in model.tokenizer.stages
        ],
        attentions=[_build_token_attention(stage, width) for stage, _, width in model.token_attentions],
        project=nn.Linear(widths[-1], model.backbone.embed_dim),
    )


def _build_token_attention(stage: Stage, in_dim: int) -> nn.Module:
    assert stage.token_dim is not None and stage.attention is not None  # the spec holds this for all but the last stage
    match stage.attention:
        case TransformerAttention():
            return TokenTransformer(in_dim=in_dim, dim=stage.token_dim)
        case PerformerAttention(kernel_ratio=kernel_ratio, dropout=dropout):
            return TokenPerformer(in_dim=in_dim, dim=stage.token_dim, kernel_ratio=kernel_ratio, dropout=dropout)
        case _:
            assert_never(stage.attention)


def _build_blocks(backbone: PlainBackbone) -> list[nn.Module]:
    return [
        Block(
            dim=backbone.embed_dim,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
            qkv_bias=backbone.qkv_bias,
            drop_path=drop_path,
        )
        for num_heads, hidden_dim, drop_path in zip(backbone.heads, backbone.mlp_dims, backbone.drop_paths, strict=True)
    ]
