"""A model as a sequence of boxes, each with its output shape and its cost. Torch-free.

The boxes are the rows of `t2tbuild summarize`, in the same order and with the same numbers.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, assert_never

from t2tbuild.cost.closed_form import predict_cost
from t2tbuild.cost.model import EVERY_LEVEL, Cost, PartCost
from t2tbuild.layout import Grid
from t2tbuild.spec.backbone import Backbone, DenseBackbone, PlainBackbone
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.tokenizer import (
    ConvTokenizer,
    PatchTokenizer,
    PerformerAttention,
    Stage,
    T2TTokenizer,
    Window,
)


class BoxKind(StrEnum):
    """The kind of a step; each has a colour in diagrams."""

    IMAGE = "image"
    SPLIT = "split"
    ATTENTION = "attention"
    LINEAR = "linear"
    TOKENS = "tokens"
    BLOCKS = "blocks"
    NORM = "norm"
    HEAD = "head"


COLOURS = {
    BoxKind.IMAGE: "#8C959F",
    BoxKind.SPLIT: "#0072B2",
    BoxKind.ATTENTION: "#E69F00",
    BoxKind.LINEAR: "#009E73",
    BoxKind.TOKENS: "#CC79A7",
    BoxKind.BLOCKS: "#D55E00",
    BoxKind.NORM: "#8C959F",
    BoxKind.HEAD: "#56B4E9",
}
"""The palette of Okabe and Ito for colour-blind readers, and gray."""


class Box(NamedTuple):
    """A step of a model.

    `grid`, `tokens` and `channels` describe its output, where known. `share` is its share of the model's MACs, 0 to 1.
    `window` slides over its input grid. `profile` has a value for each block if blocks differ.
    """

    kind: BoxKind
    title: str
    detail: str
    grid: Grid | None
    tokens: int | None
    channels: int | None
    params: int
    macs: int
    share: float
    window: Window | None = None
    profile: tuple[float, ...] = ()


class Join(StrEnum):
    """How the output of a branch is combined with its input."""

    ADD = "added to the branch's input"
    CONCATENATE = "concatenated with the block's input"


class Branch(NamedTuple):
    """Modules of a block in sequence, and how their output is combined with the branch's input."""

    boxes: tuple[Box, ...]
    join: Join


@dataclass(frozen=True)
class Architecture:
    """A model as boxes, from the image to the logits.

    `inside` has the modules of a block, with the costs of all `blocks` blocks together.
    """

    name: str
    image: Grid
    in_chans: int
    prefix_tokens: int
    boxes: tuple[Box, ...]
    inside: tuple[Branch, ...]
    blocks: int
    params: int
    trainable_params: int
    macs: int


class _Caption(NamedTuple):
    kind: BoxKind
    detail: str
    window: Window | None = None


def build_architecture(model: ModelSpec) -> Architecture:
    """Build the boxes of a model; costs are those of `predict_cost`.

    >>> from t2tbuild import load_spec
    >>> boxes = build_architecture(load_spec("t2t_vit_14").model).boxes
    >>> boxes[1].title, boxes[1].detail, boxes[1].macs
    ('token performer 1', '147 → 64 channels, 32 random features', 156144576)
    """
    cost, captions = predict_cost(model, EVERY_LEVEL), _captions(model)
    boxes = tuple(_box(part, caption, cost) for part, caption in zip(cost.parts, captions, strict=True))
    groups = [part for part, caption in zip(cost.parts, captions, strict=True) if caption.kind is BoxKind.BLOCKS]
    return Architecture(
        name=model.name,
        image=model.image,
        in_chans=model.in_chans,
        prefix_tokens=model.prefix_tokens,
        boxes=boxes,
        inside=tuple(_block_branches(model.backbone, groups, cost.macs)),
        blocks=model.backbone.num_blocks,
        params=cost.params,
        trainable_params=cost.trainable_params,
        macs=cost.macs,
    )


def _box(part: PartCost, caption: _Caption, cost: Cost) -> Box:
    title = part.name.partition(" (")[0]
    shape = (part.grid, part.tokens, part.channels)
    return Box(
        caption.kind, title, caption.detail, *shape, part.params, part.macs, part.macs / cost.macs, caption.window
    )


def _captions(model: ModelSpec) -> list[_Caption]:
    """Return a caption for each part of the model."""
    backbone, width = model.backbone, model.backbone.out_dim
    prefix = "2 tokens" if model.distillation_token else "1 token"
    sources = ["class token", "distillation token"][: model.prefix_tokens]
    return [
        *_tokenizer_captions(model),
        _Caption(BoxKind.TOKENS, f"{prefix} prepended, {backbone.position} positions added"),
        *_backbone_captions(backbone),
        _Caption(BoxKind.NORM, f"LayerNorm of {width:,} channels"),
        *[_Caption(BoxKind.HEAD, f"{width:,} → {model.num_classes:,} classes, from the {name}") for name in sources],
    ]


def _tokenizer_captions(model: ModelSpec) -> Iterator[_Caption]:
    tokenizer, embed_dim = model.tokenizer, model.backbone.embed_dim
    match tokenizer:
        case T2TTokenizer():
            widths = tokenizer.widths(model.in_chans)
            for stage, width in zip(tokenizer.stages, widths, strict=True):
                yield _Caption(BoxKind.SPLIT, _describe_window(stage), stage)
                if stage.attention is not None:
                    yield _Caption(
                        BoxKind.ATTENTION, f"{width:,} → {stage.token_dim:,} channels, {_describe_attention(stage)}"
                    )
            yield _Caption(BoxKind.LINEAR, f"{widths[-1]:,} → {embed_dim:,} channels")
        case ConvTokenizer() | PatchTokenizer():
            for window, channels in zip(tokenizer.windows, tokenizer.channels_below(model.in_chans), strict=True):
                out = window.token_dim or embed_dim
                yield _Caption(BoxKind.LINEAR, f"{_describe_window(window)}; {channels:,} → {out:,}", window)
        case _:
            assert_never(tokenizer)


def _describe_window(window: Window) -> str:
    patch = f"{window.patch_size} x {window.patch_size}"
    if not (window.overlap or window.pad):
        return f"{patch}, side by side"
    # convolutions are described by their strides
    shared = f", overlap {window.overlap}" if isinstance(window, Stage) else ""
    return f"{patch}{shared}, stride {window.stride}, padding {window.pad}"


def _describe_attention(stage: Stage) -> str:
    if isinstance(stage.attention, PerformerAttention):
        return f"{int((stage.token_dim or 0) * stage.attention.kernel_ratio)} random features"
    return "softmax, one head"


def _backbone_captions(backbone: Backbone) -> Iterator[_Caption]:
    match backbone:
        case PlainBackbone():
            ratio = _format_range(backbone.mlp_ratios)
            detail = f"{backbone.embed_dim:,} channels, {_describe_heads(backbone)}, MLP ratio {ratio}"
            yield _Caption(BoxKind.BLOCKS, detail)
        case DenseBackbone(groups=groups, growth_rate=growth_rate):
            for index, group in enumerate(groups):
                width = group[-1] + growth_rate
                yield _Caption(BoxKind.BLOCKS, f"{group[0]:,} → {width:,} channels, {growth_rate} more a block")
                if index < len(groups) - 1:
                    yield _Caption(BoxKind.LINEAR, f"{width:,} → {width // 2:,} channels, GELU")
        case _:
            assert_never(backbone)


def _block_branches(backbone: Backbone, groups: Sequence[PartCost], total: int) -> Iterator[Branch]:
    """Return the branches of a block in forward order."""
    params, macs = _module_totals(groups)

    def module(name: str, kind: BoxKind, title: str, detail: str, profile: tuple[float, ...] = ()) -> Box:
        share = macs[name] / total
        return Box(kind, title, detail, None, None, None, params[name], macs[name], share, profile=_profile(profile))

    ghost, squeeze = backbone.ghost, backbone.squeeze_excite
    halves = ", ghost" if ghost and ghost.attention else ""
    copies = ", ghost" if ghost and ghost.mlp else ""
    norms = [module(name, BoxKind.NORM, "norm", "LayerNorm") for name in ("norm1", "norm2")]
    attention = [module("attn", BoxKind.ATTENTION, "attention", f"{_describe_heads(backbone)}{halves}", backbone.heads)]
    if squeeze:
        detail = f"bottleneck of channels / {squeeze.reduction}"
        attention.append(module("attn.se_layer", BoxKind.LINEAR, "squeeze-excite", detail))
    mlp = module("mlp", BoxKind.LINEAR, "MLP", f"{_describe_mlp(backbone)}{copies}", backbone.mlp_ratios)
    yield Branch((norms[0], *attention), Join.ADD)
    yield Branch((norms[1], mlp), Join.ADD)
    if isinstance(backbone, DenseBackbone):
        detail = f"→ {backbone.growth_rate:,} channels"
        yield Branch((module("dense_linear", BoxKind.LINEAR, "dense linear", detail),), Join.CONCATENATE)


def _module_totals(groups: Sequence[PartCost]) -> tuple[Counter[str], Counter[str]]:
    """Sum parameters and MACs of each module over all blocks; squeeze-excite is separate from attention."""
    params, macs = Counter[str](), Counter[str]()
    for group in groups:
        is_block = not group.parts[0].name.startswith("blocks.")  # a group of one block is that block
        for block in [group] if is_block else group.parts:
            for row in block.parts:
                params[row.name] += row.params
                macs[row.name] += row.macs
                for inner in row.parts:
                    if inner.name == "se_layer":
                        params.update({row.name: -inner.params, f"{row.name}.{inner.name}": inner.params})
                        macs.update({row.name: -inner.macs, f"{row.name}.{inner.name}": inner.macs})
    return params, macs


def _describe_heads(backbone: Backbone) -> str:
    """Describe the heads of the attention: 6 heads of 64."""
    dims = {width // heads for width, heads in zip(backbone.widths, backbone.heads, strict=True)}
    noun = "head" if set(backbone.heads) == {1} else "heads"
    return f"{_format_range(backbone.heads)} {noun}" + (f" of {dims.pop()}" if len(dims) == 1 else "")


def _describe_mlp(backbone: Backbone) -> str:
    """Describe the widths of the MLP, or their ratios if blocks differ."""
    shapes = set(zip(backbone.widths, backbone.mlp_dims, strict=True))
    if len(shapes) > 1:
        return f"ratio {_format_range(backbone.mlp_ratios)}"
    width, hidden = shapes.pop()
    return f"{width:,} → {hidden:,} → {width:,}"


def _format_range(values: Sequence[int | float]) -> str:
    """Format the value of all blocks, or their range.

    >>> _format_range((3, 3, 3)), _format_range((4, 4, 6, 1.5))
    ('3', '1.5 to 6')
    """
    least, largest = min(values), max(values)
    return f"{least:g}" if least == largest else f"{least:g} to {largest:g}"


def _profile(values: tuple[float, ...]) -> tuple[float, ...]:
    return values if len(set(values)) > 1 else ()
