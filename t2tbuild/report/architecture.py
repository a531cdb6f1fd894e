"""A model as boxes: what an image passes, step by step, with what each step gives out and costs. Torch-free.

The boxes are the rows of `t2tbuild summarize`, in the same order and with the same figures.
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


class Kind(StrEnum):
    """What a step does; drawings give each a colour."""

    IMAGE = "image"
    SPLIT = "split"
    ATTENTION = "attention"
    LINEAR = "linear"
    TOKENS = "tokens"
    BLOCKS = "blocks"
    NORM = "norm"
    HEAD = "head"


COLOURS = {
    Kind.IMAGE: "#8C959F",
    Kind.SPLIT: "#0072B2",
    Kind.ATTENTION: "#E69F00",
    Kind.LINEAR: "#009E73",
    Kind.TOKENS: "#CC79A7",
    Kind.BLOCKS: "#D55E00",
    Kind.NORM: "#8C959F",
    Kind.HEAD: "#56B4E9",
}
"""Those of Okabe and Ito, which need no colour vision, and gray."""


class Box(NamedTuple):
    """A step that an image passes.

    `grid`, `tokens` and `channels` are those of what it gives out, where known; `params` and `macs` are what it costs,
    `share` that part of the model's MACs, 0 to 1. `window` slides over the grid below. `profile` has a value for each
    block, where they differ.
    """

    kind: Kind
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
    """How the result of a branch and what passes it by become one."""

    ADD = "added to the branch's input"
    CONCATENATE = "put beside the block's input"


class Branch(NamedTuple):
    """Modules of a block that follow one another, and how their result is joined with what passed them by."""

    boxes: tuple[Box, ...]
    join: Join


@dataclass(frozen=True)
class Architecture:
    """A model as boxes, from the image to the logits.

    `inside` is what a block does, with the figures of all `blocks` blocks together.
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
    kind: Kind
    detail: str
    window: Window | None = None


def architecture(model: ModelSpec) -> Architecture:
    """The boxes of a model; figures are those of `predict_cost`.

    >>> from t2tbuild import load_spec
    >>> boxes = architecture(load_spec("t2t_vit_14").model).boxes
    >>> boxes[1].title, boxes[1].detail, boxes[1].macs
    ('token performer 1', '147 → 64 channels, 32 random features', 156144576)
    """
    cost, captions = predict_cost(model, EVERY_LEVEL), _captions(model)
    boxes = tuple(_box(part, caption, cost) for part, caption in zip(cost.parts, captions, strict=True))
    groups = [part for part, caption in zip(cost.parts, captions, strict=True) if caption.kind is Kind.BLOCKS]
    return Architecture(
        name=model.name,
        image=model.image,
        in_chans=model.in_chans,
        prefix_tokens=model.prefix_tokens,
        boxes=boxes,
        inside=tuple(_inside(model.backbone, groups, cost.macs)),
        blocks=model.backbone.blocks_in_all,
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
    """For each part of the model what it does, and how."""
    backbone, width = model.backbone, model.backbone.out_dim
    many = "2 tokens" if model.distillation_token else "1 token"
    readers = ["class token", "distillation token"][: model.prefix_tokens]
    return [
        *_tokenizer(model),
        _Caption(Kind.TOKENS, f"{many} in front, {backbone.position} positions added"),
        *_backbone(backbone),
        _Caption(Kind.NORM, f"LayerNorm of {width:,} channels"),
        *[_Caption(Kind.HEAD, f"{width:,} → {model.num_classes:,} classes, of the {reader}") for reader in readers],
    ]


def _tokenizer(model: ModelSpec) -> Iterator[_Caption]:
    tokenizer, embed_dim = model.tokenizer, model.backbone.embed_dim
    match tokenizer:
        case T2TTokenizer():
            widths = tokenizer.widths(model.in_chans)
            for stage, width in zip(tokenizer.stages, widths, strict=True):
                yield _Caption(Kind.SPLIT, _slides(stage), stage)
                if stage.attention is not None:
                    yield _Caption(Kind.ATTENTION, f"{width:,} → {stage.token_dim:,} channels, {_attends(stage)}")
            yield _Caption(Kind.LINEAR, f"{widths[-1]:,} → {embed_dim:,} channels")
        case ConvTokenizer() | PatchTokenizer():
            for window, channels in zip(tokenizer.windows, tokenizer.channels_below(model.in_chans), strict=True):
                out = window.token_dim or embed_dim
                yield _Caption(Kind.LINEAR, f"{_slides(window)}; {channels:,} → {out:,}", window)
        case _:
            assert_never(tokenizer)


def _slides(window: Window) -> str:
    patch = f"{window.patch_size} x {window.patch_size}"
    if not (window.overlap or window.pad):
        return f"{patch}, side by side"
    # convolutions are told by their strides
    shared = f", overlap {window.overlap}" if isinstance(window, Stage) else ""
    return f"{patch}{shared}, stride {window.stride}, padding {window.pad}"


def _attends(stage: Stage) -> str:
    if isinstance(stage.attention, PerformerAttention):
        return f"{int((stage.token_dim or 0) * stage.attention.kernel_ratio)} random features"
    return "softmax, one head"


def _backbone(backbone: Backbone) -> Iterator[_Caption]:
    match backbone:
        case PlainBackbone():
            message = f"{backbone.embed_dim:,} channels, {_heads(backbone)}, MLP ratio {_told(backbone.mlp_ratios)}"
            yield _Caption(Kind.BLOCKS, message)
        case DenseBackbone(groups=groups, growth_rate=growth_rate):
            for index, group in enumerate(groups):
                width = group[-1] + growth_rate
                yield _Caption(Kind.BLOCKS, f"{group[0]:,} → {width:,} channels, {growth_rate} more a block")
                if index < len(groups) - 1:
                    yield _Caption(Kind.LINEAR, f"{width:,} → {width // 2:,} channels, GELU")
        case _:
            assert_never(backbone)


def _inside(backbone: Backbone, groups: Sequence[PartCost], total: int) -> Iterator[Branch]:
    """The modules of a block, in the order in which tokens pass them."""
    params, macs = _sums(groups)

    def module(name: str, kind: Kind, title: str, detail: str, profile: tuple[float, ...] = ()) -> Box:
        share = macs[name] / total
        return Box(kind, title, detail, None, None, None, params[name], macs[name], share, profile=_differing(profile))

    ghost, squeeze = backbone.ghost, backbone.squeeze_excite
    halves = ", ghost" if ghost and ghost.attention else ""
    copies = ", ghost" if ghost and ghost.mlp else ""
    norms = [module(name, Kind.NORM, "norm", "LayerNorm") for name in ("norm1", "norm2")]
    attention = [module("attn", Kind.ATTENTION, "attention", f"{_heads(backbone)}{halves}", backbone.heads)]
    if squeeze:
        message = f"bottleneck of channels / {squeeze.reduction}"
        attention.append(module("attn.se_layer", Kind.LINEAR, "squeeze-excite", message))
    mlp = module("mlp", Kind.LINEAR, "MLP", f"{_hidden(backbone)}{copies}", backbone.mlp_ratios)
    yield Branch((norms[0], *attention), Join.ADD)
    yield Branch((norms[1], mlp), Join.ADD)
    if isinstance(backbone, DenseBackbone):
        message = f"→ {backbone.growth_rate:,} channels"
        yield Branch((module("dense_linear", Kind.LINEAR, "dense linear", message),), Join.CONCATENATE)


def _sums(groups: Sequence[PartCost]) -> tuple[Counter[str], Counter[str]]:
    """Parameters and MACs of each module of a block, over all blocks; squeeze-excite is told apart from attention."""
    params, macs = Counter[str](), Counter[str]()
    for group in groups:
        alone = not group.parts[0].name.startswith("blocks.")  # a group of one block is that block
        for block in [group] if alone else group.parts:
            for row in block.parts:
                params[row.name] += row.params
                macs[row.name] += row.macs
                for inner in row.parts:
                    if inner.name == "se_layer":
                        params.update({row.name: -inner.params, f"{row.name}.{inner.name}": inner.params})
                        macs.update({row.name: -inner.macs, f"{row.name}.{inner.name}": inner.macs})
    return params, macs


def _heads(backbone: Backbone) -> str:
    """The heads of a block's attention: 6 heads of 64."""
    dims = {width // heads for width, heads in zip(backbone.widths, backbone.heads, strict=True)}
    many = "head" if set(backbone.heads) == {1} else "heads"
    return f"{_told(backbone.heads)} {many}" + (f" of {dims.pop()}" if len(dims) == 1 else "")


def _hidden(backbone: Backbone) -> str:
    """The widths of a block's MLP, where all blocks have the same; else their ratios."""
    shapes = set(zip(backbone.widths, backbone.mlp_dims, strict=True))
    if len(shapes) > 1:
        return f"ratio {_told(backbone.mlp_ratios)}"
    width, hidden = shapes.pop()
    return f"{width:,} → {hidden:,} → {width:,}"


def _told(values: Sequence[int | float]) -> str:
    """The value of all blocks, or the least and the largest.

    >>> _told((3, 3, 3)), _told((4, 4, 6, 1.5))
    ('3', '1.5 to 6')
    """
    least, largest = min(values), max(values)
    return f"{least:g}" if least == largest else f"{least:g} to {largest:g}"


def _differing(values: tuple[float, ...]) -> tuple[float, ...]:
    return values if len(set(values)) > 1 else ()
