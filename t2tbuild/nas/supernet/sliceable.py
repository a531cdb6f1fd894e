"""What members of a space share: which models can be sliced, and how large each shared tensor must be. Torch-free.

A tensor of a member is the leading part of the supernet's tensor of the same name and family. Tensors of different
families, such as those of a Performer and of a transformer, are not shared.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from t2tbuild.spec.backbone import PlainBackbone, SqueezeExcite
from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics.yaml_source import KeyPath
from t2tbuild.spec.extension.registry import extension_nodes
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.tokenizer import PerformerAttention, T2TTokenizer, Window

TOKENIZER = "tokens_to_token."
Quantity = tuple[object, ...]
"""A quantity on which the sizes of tensors depend, such as the width of the models that have a block."""


@dataclass(frozen=True)
class NotSliceable:
    """The field of a model, as a path, for which it cannot be a member of a supernet, and the reason."""

    path: KeyPath
    reason: str


def not_sliceable(model: ModelSpec) -> NotSliceable | None:
    """Return why a model cannot be a member of a supernet, None if it can."""
    if not isinstance(model.backbone, PlainBackbone):
        reason = "its blocks read concatenated channels, so a narrow one is not the leading part of a wide one"
        return NotSliceable(("backbone", "kind"), f"a {model.backbone.kind} backbone cannot be sliced: {reason}")
    if model.backbone.ghost is not None:
        reason = "half of the channels are copies of the others, so leading slices would mix both halves"
        return NotSliceable(("backbone", "ghost"), f"ghost operations cannot be sliced: {reason}")
    for path, node in extension_nodes(model):
        kind = getattr(node, "kind", type(node).__name__)
        return NotSliceable(path, f"{kind} is of an extension, and how to slice its tensors is not known")
    return None


def family_of(tensor: str, model: ModelSpec) -> str:
    """Return what two models must have in common to share a tensor; empty where the name is enough."""
    if tensor == "pos_embed":
        grid = model.grids[-1]
        return f"{model.backbone.position} {grid.height}x{grid.width}+{model.prefix_tokens}"
    if not tensor.startswith(TOKENIZER):
        return ""
    tokenizer, module = model.tokenizer, tensor.removeprefix(TOKENIZER).split(".")[0]
    last = len(tokenizer.windows) - 1
    if module == "project":
        return f"{_operation(tokenizer)} {tokenizer.windows[last].patch_size} after {last}"
    if module.startswith("attention"):
        return _attention_family(tokenizer.windows[int(module.removeprefix("attention")) - 1])
    return f"convolution {tokenizer.windows[int(module.removeprefix('soft_split'))].patch_size}"


def _operation(tokenizer: Node) -> str:
    return "linear" if isinstance(tokenizer, T2TTokenizer) else "convolution"


def _attention_family(stage: Window) -> str:
    attention = getattr(stage, "attention", None)
    ratio = f" {attention.kernel_ratio}" if isinstance(attention, PerformerAttention) else ""
    return f"{getattr(attention, 'kind', '')}{ratio} {stage.patch_size}"


def representatives(models: Sequence[ModelSpec]) -> list[ModelSpec]:
    """Return a few of the models whose tensors are, size by size, as large as those of all of them."""
    largest: dict[Quantity, tuple[int, ModelSpec]] = {}
    for model in models:
        for quantity, size in (*_sizes(model), *_sizes_of_narrow_proxies(model)):
            if size > largest.get(quantity, (-1, model))[0]:
                largest[quantity] = size, model
    return list({id(model): model for _, model in largest.values()}.values())


def largest_sizes(models: Iterable[ModelSpec]) -> dict[Quantity, int]:
    """Return the largest value of each quantity on which the sizes of a supernet's tensors depend."""
    largest: dict[Quantity, int] = {}
    for model in models:
        for quantity, size in _sizes(model):
            largest[quantity] = max(size, largest.get(quantity, 0))
    return largest


def is_held(model: ModelSpec, largest: Mapping[Quantity, int]) -> bool:
    """Whether a supernet of members with these largest sizes holds a model."""
    return all(size <= largest.get(quantity, -1) for quantity, size in _sizes(model))


def _sizes(model: ModelSpec) -> Iterator[tuple[Quantity, int]]:
    """Yield the quantities on which the sizes of a model's tensors depend; each size depends on one."""
    backbone, tokenizer = model.backbone, model.tokenizer
    yield ("position", family_of("pos_embed", model)), backbone.embed_dim
    options = (backbone.qkv_bias, backbone.layer_scale is not None, backbone.squeeze_excite is not None)
    reduction = backbone.squeeze_excite.reduction if backbone.squeeze_excite else backbone.embed_dim
    for block, hidden in enumerate(backbone.mlp_dims):
        yield ("width", block, *options), backbone.embed_dim
        yield ("hidden", block), hidden
        yield ("bottleneck", block), backbone.embed_dim // reduction
    below = tokenizer.channels_below(model.in_chans)
    for index, window in enumerate(tokenizer.windows):
        family = (index, tokenizer.kind, len(tokenizer.windows), _attention_family(window))
        yield ("input", *family), below[index]
        yield ("output", *family), window.token_dim or backbone.embed_dim


def _sizes_of_narrow_proxies(model: ModelSpec) -> Iterator[tuple[Quantity, int]]:
    """Yield quantities that distinguish the widths of narrow proxies, which are rounded to multiples of the heads."""
    backbone = model.backbone
    reduction = backbone.squeeze_excite.reduction if backbone.squeeze_excite else 0
    for block, hidden in enumerate(backbone.mlp_dims):
        yield ("narrow", block, backbone.embed_dim, math.lcm(*backbone.heads), reduction), hidden


def hull(model: ModelSpec, models: Sequence[ModelSpec]) -> ModelSpec:
    """Return `model` with every width and the depth the largest of any of `models`, which need not fit a budget."""
    backbones = [one.backbone for one in models]
    width, depth = max(one.embed_dim for one in backbones), max(one.num_blocks for one in backbones)
    hidden = [max(one.mlp_dims[block] for one in backbones if one.num_blocks > block) for block in range(depth)]
    reductions = [one.squeeze_excite.reduction for one in backbones if one.squeeze_excite]
    changes = {
        "depth": depth,
        "embed_dim": width,
        "num_heads": 1,  # the tensors do not depend on the number of heads
        "head_dim": None,
        "mlp_ratio": tuple((channels + 0.5) / width for channels in hidden),  # int(width * ratio) = channels
        "qkv_bias": any(one.qkv_bias for one in backbones),
        "squeeze_excite": SqueezeExcite(reduction=min(reductions)) if reductions else None,
        "layer_scale": next((one.layer_scale for one in backbones if one.layer_scale is not None), None),
    }
    tokenizer = model.tokenizer
    if len(tokenizer.windows) > 1:
        dims = [_widest(models, index) for index in range(len(tokenizer.windows) - 1)]
        *stages, last = tokenizer.windows
        widened = [stage.model_copy(update={"token_dim": dim}) for stage, dim in zip(stages, dims, strict=True)]
        tokenizer = tokenizer.model_copy(update={"stages": (*widened, last)})
    return model.model_copy(update={"tokenizer": tokenizer, "backbone": model.backbone.model_copy(update=changes)})


def _widest(models: Sequence[ModelSpec], index: int) -> int:
    """Return the largest token_dim of a stage in any model that has one there."""
    windows = (one.tokenizer.windows for one in models)
    return max(each[index].token_dim or 0 for each in windows if len(each) > index)
