"""Build a torch module from a ModelSpec, with one function per node of the spec tree."""

import contextlib
import difflib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, assert_never, overload

import torch
from torch import nn

from t2tbuild.errors import CostError, FieldError
from t2tbuild.machine_memory import machine_memory
from t2tbuild.modules.attention import Attention, BlockAttention
from t2tbuild.modules.block import Block
from t2tbuild.modules.dense import DenseBlock, Transition
from t2tbuild.modules.ghost import GhostAttention, GhostMlp
from t2tbuild.modules.layer_scale import LayerScale
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
from t2tbuild.spec.extension.registry import entry_of
from t2tbuild.spec.limits import format_float32_memory
from t2tbuild.spec.model import AnyModel, ModelSpec, TimmModel
from t2tbuild.spec.tokenizer import PerformerAttention, TransformerAttention
from t2tbuild.symbolic.model import layout

T = TypeVar("T")

OPTIONS = ("model", "backbone", "options")

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


def _require_memory(model: ModelSpec) -> None:
    """Raise FieldError for weights that this machine has no memory for: it would end other programs for them."""
    if torch.get_default_device().type == "meta":
        return
    params, memory = model.rough_params, machine_memory()
    if 4 * sum(params.values()) > memory:
        needed, there = format_float32_memory(sum(params.values())), format_float32_memory(memory / 4)
        message = f"the weights of {model.name} need {needed} in float32, and this machine has {there}"
        raise FieldError(
            ("model", max(params, key=lambda field: params[field])), "memory", message, "choose a smaller model"
        )


def _build_ours(model: ModelSpec) -> T2TViT:
    _require_memory(model)
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
    return [Block(**branches) for branches in _build_branches(backbone)], list(backbone.widths)


def _build_dense_blocks(backbone: spec_backbone.DenseBackbone) -> tuple[list[nn.Module], list[int]]:
    branches, growth_rate = _build_branches(backbone), backbone.growth_rate
    built: list[nn.Module] = []
    out_dims: list[int] = []
    for group in backbone.groups:
        if built:
            built.append(Transition(dim=out_dims[-1]))
            out_dims.append(group[0])
        for one in itertools.islice(branches, len(group)):
            built.append(DenseBlock(growth_rate=growth_rate, **one))
            out_dims.append(one["dim"] + growth_rate)
    return built, out_dims


class BlockModules(NamedTuple):
    """What an option changes in a built block: the modules of the functions in its `BlockHooks`.

    Attributes:
        attention: Builds the module "attn" from (dim, num_heads, qkv_bias). Derive it from BlockAttention, so that
            modules of other options can follow it.
        mlp: Builds the module "mlp" from (dim, hidden_dim).
        after_attention: The name and builder (dim) of a module in "attn" that follows the projection.
        after_branch: The same of a module that ends each branch, before stochastic depth. Its name gets a 1 in the
            branch of the attention and a 2 in that of the MLP.
    """

    attention: Callable[[int, int, bool], nn.Module] | None = None
    mlp: Callable[[int, int], nn.Module] | None = None
    after_attention: tuple[str, Callable[[int], nn.Module]] | None = None
    after_branch: tuple[str, Callable[[int], nn.Module]] | None = None


def _build_branches(backbone: spec_backbone.BaseBackbone) -> Iterator[dict[str, Any]]:
    """Yield the arguments of each `Block`. Raises FieldError where two options change the same module."""
    options = [_builder(BLOCK_OPTIONS, option)(option) for option in backbone.block_options]
    build_attention = _only("attention", [one.attention for one in options if one.attention]) or _build_attention
    build_mlp = _only("mlp", [one.mlp for one in options if one.mlp]) or _build_mlp
    followers = [one.after_attention for one in options if one.after_attention]
    ends = [one.after_branch for one in options if one.after_branch]
    _require_distinct_names([name for name, _ in followers])
    _require_distinct_names(["norm", *(name for name, _ in ends)])  # norm1 and norm2 are the block's own
    rows = zip(backbone.widths, backbone.heads, backbone.mlp_dims, backbone.drop_paths, strict=True)
    for dim, num_heads, hidden_dim, rate in rows:
        following = [(name, build(dim)) for name, build in followers]
        attn = build_attention(dim, num_heads, backbone.qkv_bias)
        for name, module in following:
            _require_block_attention(attn, name).follow(name, module)
        yield {
            "dim": dim,
            "attn": attn,
            "mlp": build_mlp(dim, hidden_dim),
            "drop_path": rate,
            "after_attn": {f"{name}1": build(dim) for name, build in ends},
            "after_mlp": {f"{name}2": build(dim) for name, build in ends},
        }


def _only(module: str, builders: list[T]) -> T | None:
    """Return the builder that replaces a module, None if no option does. Raises FieldError if several do."""
    if len(builders) > 1:
        message = f"{len(builders)} block options replace the {module} of a block"
        raise FieldError(OPTIONS, "one-option-replaces-each", message, "remove all but one")
    return builders[0] if builders else None


def _require_distinct_names(names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            message = f"{count} modules of a block would have the name {name!r}"
            raise FieldError(OPTIONS, "block-module", message, "rename one in its extension")


def _require_block_attention(attn: nn.Module, follower: str) -> BlockAttention:
    if isinstance(attn, BlockAttention):
        if hasattr(attn, follower):
            message = f"a block option adds a module named {follower!r} to {type(attn).__name__}, which has one"
            raise FieldError(OPTIONS, "block-module", message, "rename it in the extension")
        return attn
    message = f"{follower} cannot follow {type(attn).__name__}, which is not a BlockAttention"
    hint = "derive it from t2tbuild.modules.attention.BlockAttention, with a method attend in place of forward"
    raise FieldError(OPTIONS, "block-attention", message, hint)


def _build_attention(dim: int, num_heads: int, qkv_bias: bool) -> nn.Module:
    return Attention(dim=dim, num_heads=num_heads, qkv_bias=qkv_bias)


def _build_ghost_attention(dim: int, num_heads: int, qkv_bias: bool) -> nn.Module:
    return GhostAttention(dim=dim, num_heads=num_heads, qkv_bias=qkv_bias)


def _build_mlp(dim: int, hidden_dim: int) -> nn.Module:
    return Mlp(dim=dim, hidden_dim=hidden_dim)


def _build_ghost_mlp(dim: int, hidden_dim: int) -> nn.Module:
    return GhostMlp(dim=dim, ratio=hidden_dim // dim)


def _ghost(node: spec_backbone.Ghost) -> BlockModules:
    return BlockModules(_build_ghost_attention if node.attention else None, _build_ghost_mlp if node.mlp else None)


def _squeeze_excite(node: spec_backbone.SqueezeExcite) -> BlockModules:
    return BlockModules(after_attention=("se_layer", lambda dim: SqueezeExcite(dim=dim, reduction=node.reduction)))


def _layer_scale(node: spec_backbone.LayerScale) -> BlockModules:
    return BlockModules(after_branch=("ls", lambda dim: LayerScale(dim=dim, init=node.init)))


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

BLOCK_OPTIONS: dict[type[Node], Callable[[Any], BlockModules]] = {
    spec_backbone.Ghost: _ghost,
    spec_backbone.SqueezeExcite: _squeeze_excite,
    spec_backbone.LayerScale: _layer_scale,
}
"""What each option changes in a block: (node)."""

BACKBONES: dict[type[Node], Callable[[Any], tuple[list[nn.Module], list[int]]]] = {
    spec_backbone.PlainBackbone: _build_plain_blocks,
    spec_backbone.DenseBackbone: _build_dense_blocks,
}
"""The builder of each backbone: the entries of the model's `blocks`, with their output channels."""


def _builder(table: Mapping[type[Any], Callable[..., T]], node: Any) -> Callable[..., T]:
    """Return the builder of a node: that of the package, or of an extension."""
    found: Callable[..., T] = entry_of(table, node, lambda extension: extension.build)
    return found


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
