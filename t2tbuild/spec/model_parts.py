"""The parts of a model and the modules of each. Torch-free.

The closed form and the reference counter both use this list, so that their tables have the same rows.
"""

import functools
from typing import assert_never

from t2tbuild.layout import Grid, Part
from t2tbuild.spec.backbone import Backbone, DenseBackbone, PlainBackbone
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.tokenizer import ConvTokenizer, PatchTokenizer, T2TTokenizer


def layout(model: ModelSpec, grids: tuple[Grid, ...] | None = None) -> tuple[Part, ...]:
    """Return the parts of `model` in the order of the forward pass. `grids` are its token grids, if already known."""
    grids, backbone = grids or model.grids, model.backbone
    tokens = model.prefix_tokens + grids[-1].tokens
    distilled = model.distillation_token
    prefix = "class, distillation, position" if distilled else "class token, position"
    return (
        *_tokenizer_parts(model, grids),
        Part(prefix, ("cls_token", *["dist_token"] * distilled, "pos_embed"), None, tokens, backbone.embed_dim),
        *_backbone_parts(backbone, tokens),
        Part("norm", ("norm",), None, tokens, backbone.out_dim),
        Part("head", ("head",), None, 1, model.num_classes),
        *[Part("distillation head", ("head_dist",), None, 1, model.num_classes)] * distilled,
    )


def _tokenizer_parts(model: ModelSpec, grids: tuple[Grid, ...]) -> list[Part]:
    tokenizer = model.tokenizer
    parts: list[Part] = []
    name = "projection"
    match tokenizer:
        case T2TTokenizer():
            widths = tokenizer.widths(model.in_chans)
            for index, (stage, grid, width) in enumerate(zip(tokenizer.stages, grids, widths, strict=True)):
                split = f"soft split {index + 1} ({stage})"
                parts.append(Part(split, (f"tokens_to_token.soft_split{index}",), grid, grid.tokens, width))
                if stage.attention is not None:
                    token_attention = f"token {stage.attention.kind} {index + 1}"
                    modules = (f"tokens_to_token.attention{index + 1}",)
                    parts.append(Part(token_attention, modules, grid, grid.tokens, stage.token_dim))
        case ConvTokenizer():
            for index, (window, grid) in enumerate(zip(tokenizer.stages[:-1], grids, strict=False)):
                convolution = f"convolution {index + 1} ({window})"
                modules = (f"tokens_to_token.soft_split{index}",)
                parts.append(Part(convolution, modules, grid, grid.tokens, window.token_dim))
            name = f"convolution {len(tokenizer.stages)} ({tokenizer.stages[-1]})"
        case PatchTokenizer():
            name = f"patches of {tokenizer.patch_size}"
        case _:
            assert_never(tokenizer)
    last = Part(name, ("tokens_to_token.project",), grids[-1], grids[-1].tokens, model.backbone.embed_dim)
    return [*parts, last]


@functools.cache  # a search calls it thousands of times with few different arguments
def _block_names(first: int, end: int) -> tuple[str, ...]:
    return tuple(f"blocks.{index}" for index in range(first, end))


def _backbone_parts(backbone: Backbone, tokens: int) -> list[Part]:
    match backbone:
        case PlainBackbone(depth=depth, embed_dim=embed_dim):
            return [Part(f"backbone blocks x {depth}", _block_names(0, depth), None, tokens, embed_dim)]
        case DenseBackbone():
            parts, entry = [], 0
            for index, group in enumerate(backbone.groups):
                blocks = _block_names(entry, entry + len(group))
                width, entry = group[-1] + backbone.growth_rate, entry + len(group)
                parts.append(Part(f"dense group {index + 1} x {len(group)}", blocks, None, tokens, width))
                if index < len(backbone.groups) - 1:
                    parts.append(Part(f"transition {index + 1}", (f"blocks.{entry}",), None, tokens, width // 2))
                    entry += 1
            return parts
        case _:
            assert_never(backbone)
