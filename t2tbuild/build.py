"""Build a torch module from a ModelSpec, with one function per node of the spec tree."""

import contextlib
import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, assert_never, overload

import torch
from torch import nn

from t2tbuild.errors import CostError, FieldError
from t2tbuild.modules.attention import Attention
from t2tbuild.modules.block import Block
from t2tbuild.modules.dense import DenseBlock, Transition
from t2tbuild.modules.ghost import GhostAttention, GhostMlp
from t2tbuild.modules.mlp import Mlp
from t2tbuild.modules.performer import TokenPerformer
from t2tbuild.modules.position import sinusoid_table
from t2tbuild.modules.soft_split import SoftSplit
from t2tbuild.modules.squeeze_excite import SqueezeExcite
from t2tbuild.modules.token_transformer import TokenTransformer
from t2tbuild.modules.tokenizers import ConvTokenizer, T2TTokenizer, Tokenizer
from t2tbuild.modules.vit import INIT_STD, T2TViT
from t2tbuild.spec import backbone as spec_backbone
from t2tbuild.spec import tokenizer as spec_tokenizer
from t2tbuild.spec.base import Node
from t2tbuild.spec.extension.registry import REGISTERED
from t2tbuild.spec.model import AnyModel, ModelSpec, TimmModel
from t2tbuild.spec.tokenizer import PerformerAttention, TransformerAttention
from t2tbuild.symbolic.model import layout

T = TypeVar("T")

SMALL_SIDE = 128
"""A timm model with an image side below this number of pixels is run once after it is built."""

MAX_TRIAL_PIXELS = 512 * 512
"""A timm model with arguments is run once if its image has at most this number of pixels."""


@overload
def build_model(model: ModelSpec) -> T2TViT: ...


@overload
def build_model(model: AnyModel) -> nn.Module: ...


def build_model(model: AnyModel) -> nn.Module:
    """Build a randomly initialised model, with torch's global random generator.

    The module maps images [B, in_chans, height, width] to logits [B, num_classes]. Its `parts` are the rows of its cost
    table. Under `torch.device("meta")` it takes no memory and can be counted.

        >>> import torch
        >>> from t2tbuild import load_spec
        >>> model = build_model(load_spec("t2t_vit_7", ["model.image_size=64"]).model)
        >>> model(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 1000])

    For a `kind: timm` spec, returns timm's module. Raises FieldError if timm has no such model, or if it does not
    accept its arguments or its image size.
    """
    match model:
        case ModelSpec():
            return _build_ours(model)
        case TimmModel():
            return _build_timm(model)
        case _:
            assert_never(model)


def _build_ours(model: ModelSpec) -> T2TViT:
    tokenizer, backbone = model.tokenizer, model.backbone
    tokens_to_token = _builder(TOKENIZERS, tokenizer)(tokenizer, model.in_chans, backbone.embed_dim)
    blocks, block_dims = _builder(BACKBONES, backbone)(backbone)
    built = T2TViT(
        tokens_to_token=tokens_to_token,
        blocks=blocks,
        block_dims=block_dims,
        input_size=(model.in_chans, *model.image),
        pos_embed=_build_position(model),
        num_classes=model.num_classes,
        num_prefix_tokens=model.prefix_tokens,
    )
    with contextlib.suppress(CostError):  # a node without a symbolic forward: fvcore's rows are the model's children
        built.parts = layout(model)
    return built


def _build_position(model: ModelSpec) -> nn.Parameter:
    """Build the position embedding [1, P + N, embed_dim]: a frozen table of sinusoids, or a learned one."""
    tokens, embed_dim = model.tokens, model.backbone.embed_dim
    if model.backbone.position == "sinusoid":
        return nn.Parameter(sinusoid_table(tokens, embed_dim), requires_grad=False)
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, tokens, embed_dim), std=INIT_STD))


def _build_t2t_tokenizer(tokenizer: spec_tokenizer.T2TTokenizer, in_chans: int, embed_dim: int) -> T2TTokenizer:
    widths, stages = tokenizer.widths(in_chans), tokenizer.stages
    return T2TTokenizer(
        soft_splits=[
            SoftSplit(patch_size=stage.patch_size, stride=stage.stride, padding=stage.pad) for stage in stages
        ],
        attentions=[
            _builder(TOKEN_ATTENTIONS, stage.attention)(stage.attention, width, stage.token_dim or 0)
            for stage, width in zip(stages[:-1], widths, strict=False)
        ],
        project=nn.Linear(widths[-1], embed_dim),
    )


def _build_convolutions(
    tokenizer: spec_tokenizer.ConvTokenizer | spec_tokenizer.PatchTokenizer, in_chans: int, embed_dim: int
) -> ConvTokenizer:
    rows = zip(tokenizer.windows, tokenizer.channels_below(in_chans), strict=True)
    return ConvTokenizer(
        convolutions=[
            nn.Conv2d(channels, window.token_dim or embed_dim, window.patch_size, window.stride, window.pad)
            for window, channels in rows
        ]
    )


def _build_token_transformer(_node: TransformerAttention, in_dim: int, dim: int) -> nn.Module:
    return TokenTransformer(in_dim=in_dim, dim=dim)


def _build_token_performer(node: PerformerAttention, in_dim: int, dim: int) -> nn.Module:
    return TokenPerformer(in_dim=in_dim, dim=dim, kernel_ratio=node.kernel_ratio, dropout=node.dropout)


def _build_plain_blocks(backbone: spec_backbone.PlainBackbone) -> tuple[list[nn.Module], list[int]]:
    plain = [Block(dim=dim, attn=attn, mlp=mlp, drop_path=rate) for dim, attn, mlp, rate in _build_branches(backbone)]
    return list(plain), list(backbone.widths)


def _build_dense_blocks(backbone: spec_backbone.DenseBackbone) -> tuple[list[nn.Module], list[int]]:
    branches, growth_rate = _build_branches(backbone), backbone.growth_rate
    built: list[nn.Module] = []
    out_dims: list[int] = []
    for group in backbone.groups:
        if built:
            built.append(Transition(dim=out_dims[-1]))
            out_dims.append(group[0])
        for dim, attn, mlp, rate in itertools.islice(branches, len(group)):
            built.append(DenseBlock(dim=dim, growth_rate=growth_rate, attn=attn, mlp=mlp, drop_path=rate))
            out_dims.append(dim + growth_rate)
    return built, out_dims


def _build_branches(backbone: spec_backbone.BaseBackbone) -> Iterator[tuple[int, nn.Module, nn.Module, float]]:
    """Yield the width, attention, MLP and drop-path rate of each block."""
    rows = zip(
        backbone.widths, backbone.heads, backbone.mlp_ratios, backbone.mlp_dims, backbone.drop_paths, strict=True
    )
    ghost, squeeze = backbone.ghost, backbone.squeeze_excite
    for dim, num_heads, ratio, hidden_dim, rate in rows:
        squeeze_excite = SqueezeExcite(dim=dim, reduction=squeeze.reduction) if squeeze else None
        attention = GhostAttention if ghost and ghost.attention else Attention
        attn = attention(dim=dim, num_heads=num_heads, qkv_bias=backbone.qkv_bias, squeeze_excite=squeeze_excite)
        ghost_mlp = ghost and ghost.mlp
        mlp = GhostMlp(dim=dim, ratio=int(ratio)) if ghost_mlp else Mlp(dim=dim, hidden_dim=hidden_dim)
        yield dim, attn, mlp, rate


TOKEN_ATTENTIONS: dict[type[Any], Callable[[Any, int, int], nn.Module]] = {
    PerformerAttention: _build_token_performer,
    TransformerAttention: _build_token_transformer,
}
"""The builder of each token attention: (node, in_dim, dim)."""

TOKENIZERS: dict[type[Node], Callable[[Any, int, int], Tokenizer]] = {
    spec_tokenizer.T2TTokenizer: _build_t2t_tokenizer,
    spec_tokenizer.ConvTokenizer: _build_convolutions,
    spec_tokenizer.PatchTokenizer: _build_convolutions,
}
"""The builder of each tokenizer: (node, in_chans, embed_dim)."""

BACKBONES: dict[type[Node], Callable[[Any], tuple[list[nn.Module], list[int]]]] = {
    spec_backbone.PlainBackbone: _build_plain_blocks,
    spec_backbone.DenseBackbone: _build_dense_blocks,
}
"""The builder of each backbone: the entries of the model's `blocks`, with their output channels."""


def _builder(table: Mapping[type[Any], Callable[..., T]], node: Any) -> Callable[..., T]:
    """Return the builder of a node: that of the package, or of an extension."""
    return table[type(node)] if type(node) in table else REGISTERED[type(node)].build


def _build_timm(model: TimmModel) -> nn.Module:
    import timm  # takes seconds

    if not timm.is_model(model.name):
        near = difflib.get_close_matches(model.name, timm.list_models(), n=3)
        known = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists them"
        raise FieldError(("model", "name"), "timm-model", f"timm {timm.__version__} has no model {model.name!r}", known)
    args: dict[str, Any] = dict(model.args)
    if timm.models.get_pretrained_cfg_value(model.name, "fixed_input_size"):
        args["img_size"] = tuple(model.image)
    try:
        built = timm.create_model(model.name, num_classes=model.num_classes, in_chans=model.in_chans, **args)
    except Exception as error:  # timm does not check its arguments
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        reason = f"timm cannot build {model.name} with {args}: {message}"
        raise FieldError(("model", "args"), "timm-args", reason, "see timm.create_model") from None
    if min(model.image) < SMALL_SIDE or (model.args and model.image.tokens <= MAX_TRIAL_PIXELS):
        _require_fit(built, model)
    return built


@torch.no_grad()
def _require_fit(built: nn.Module, model: TimmModel) -> None:
    """Run a timm model once. Raises FieldError if it does not accept its image size."""
    try:
        built.eval()(torch.zeros(1, model.in_chans, *model.image))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # any error of timm's modules
        message = f"{model.name} does not accept an image of {model.image} pixels: {error}".splitlines()[0]
        if model.args:
            raise FieldError(("model", "args"), "timm-args", message, "see timm.create_model") from None
        raise FieldError(("model", "image_size"), "timm-image", message, "write a larger image_size") from None
    finally:
        built.train()
