"""Feature maps of a model's layers, and their statistics: dead channels, and redundancy of the others."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from t2tbuild.errors import InputError
from t2tbuild.layout import Grid
from t2tbuild.modules.dense import Transition
from t2tbuild.modules.tokenizers import ConvTokenizer
from t2tbuild.modules.vit import T2TViT
from t2tbuild.report.visual.receptive_field import token_grids

DEAD_BELOW = 0.05
"""A channel is dead up to this fraction of the layer's median spatial deviation."""

ROUNDING = 1e-6
"""A channel is also dead up to this spatial deviation relative to its largest value."""


@dataclass(frozen=True)
class Layer:
    """A layer's feature maps, [B, C, rows, columns]."""

    name: str
    maps: Tensor

    @property
    def channels(self) -> int:
        return self.maps.shape[1]

    @property
    def grid(self) -> Grid:
        return Grid(*self.maps.shape[2:])


@dataclass(frozen=True)
class LayerStats:
    """Statistics of a layer: see `dead_channels` and `redundancy`; `chance` is the redundancy of white noise."""

    name: str
    channels: int
    grid: Grid
    dead: int
    redundancy: float | None
    chance: float

    @property
    def dead_share(self) -> float:
        return self.dead / self.channels


def measure_layer(layer: Layer) -> LayerStats:
    """Count the dead channels of a layer and measure its redundancy."""
    dead = int(dead_channels(layer.maps).sum())
    found = redundancy(layer.maps)
    return LayerStats(layer.name, layer.channels, layer.grid, dead, found, noise_redundancy(layer.grid))


def spatial_deviation(maps_BCHW: Tensor) -> Tensor:
    """Return the standard deviation over positions, the maximum over images: [B, C, rows, columns] -> [C]."""
    return maps_BCHW.flatten(2).std(dim=2, correction=0).amax(dim=0)


def dead_channels(maps_BCHW: Tensor) -> Tensor:
    """Return which channels are dead, that is, flat in every image: [B, C, rows, columns] -> [C] of bool.

    Let s be the standard deviation of a channel over the positions of an image, the maximum over images. A channel is
    dead if s <= 0.05 median(s) over the layer's channels (for an even number the lower median), or if s is within
    rounding, 1e-6 of the channel's largest value. Zeros and large constants are both flat: the paper frames in red
    "invalid feature maps with zero or too large values" (Figure 2) and gives no threshold.
    """
    deviation_C = spatial_deviation(maps_BCHW)
    rounding_C = ROUNDING * maps_BCHW.abs().amax(dim=(0, 2, 3))
    return deviation_C <= torch.maximum(DEAD_BELOW * deviation_C.median(), rounding_C)


def redundancy(maps_BCHW: Tensor) -> float | None:
    """Return the mean |r| over all images and pairs of channels that are not dead; None for fewer than two channels.

    It is from 0 to 1. r is Pearson's correlation of two channels over the positions of an image. A value of 1 means
    that all channels are equal up to scale, sign and offset. The paper explains the many channels of ViT by redundancy
    (Section 1).
    """
    x_BCN = maps_BCHW[:, ~dead_channels(maps_BCHW)].flatten(2).double()
    channels = x_BCN.shape[1]
    if channels < 2:
        return None
    x_BCN = x_BCN - x_BCN.mean(dim=2, keepdim=True)
    x_BCN = x_BCN / x_BCN.norm(dim=2, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    off_diagonal = 0.0
    for x_CN in x_BCN:
        r_CC = (x_CN @ x_CN.T).abs()
        off_diagonal += float(r_CC.sum() - r_CC.diagonal().sum())
    return off_diagonal / (len(x_BCN) * channels * (channels - 1))


def noise_redundancy(grid: Grid) -> float:
    """Return the expected |r| of white noise on a grid of n positions, about sqrt(2 / (pi (n - 1)))."""
    return math.sqrt(2 / (math.pi * max(1, grid.tokens - 1)))


@torch.no_grad()
def extract_layers(model: nn.Module, images_BCHW: Tensor) -> list[Layer]:
    """Return the feature maps of every stage and block in forward order.

    For our models these are the outputs of each token attention (or convolution), the tokens, and each block. For timm
    models they are the outputs of `forward_intermediates`, and of the blocks in stages that are sequences. Tokens are
    reshaped to maps without the prefix tokens. Layers with a single position are skipped.

    Raises InputError if a timm model does not expose its features.
    """
    model.eval()
    found = _t2t_layers(model, images_BCHW) if isinstance(model, T2TViT) else _timm_layers(model, images_BCHW)
    return [layer for layer in found if layer.grid.tokens > 1]


def _t2t_layers(model: T2TViT, images_BCHW: Tensor) -> list[Layer]:
    tokenizer = model.tokens_to_token
    stage = "soft_split" if isinstance(tokenizer, ConvTokenizer) else "attention"
    stage_modules = {name: part for name, part in tokenizer.named_children() if name.startswith(stage)}
    grids = token_grids(Grid(*images_BCHW.shape[2:]), tokenizer.windows)
    with record_outputs({**stage_modules, "tokens": tokenizer}) as outputs:
        maps = model.forward_intermediates(images_BCHW, intermediates_only=True)
    stages = [
        Layer(f"stage {number}" if name in stage_modules else "tokens", tokens_to_map(outputs[name], grid))
        for number, (name, grid) in enumerate(zip([*stage_modules, "tokens"], grids, strict=True), start=1)
    ]
    named = zip(model.blocks, maps, strict=True)
    return [*stages, *(Layer(_block_name(block, index), found) for index, (block, found) in enumerate(named))]


def _block_name(block: nn.Module, index: int) -> str:
    return f"transition {index}" if isinstance(block, Transition) else f"block {index}"


def _timm_layers(model: Any, images_BCHW: Tensor) -> list[Layer]:
    """Return the stages from `forward_intermediates` or hooks; an nn.Sequential stage is split into its blocks."""
    modules = dict(model.named_modules())
    infos = [info for info in _feature_info(model) if info["module"] in modules]
    names = [info["module"] for info in infos]
    children = {name: _child_names(name, modules) for name in names}
    watched = {name: modules[name] for name in [*names, *(child for group in children.values() for child in group)]}
    with record_outputs(watched) as outputs:
        if hasattr(model, "forward_intermediates"):
            maps = dict(zip(names, model.forward_intermediates(images_BCHW, intermediates_only=True), strict=False))
        else:
            model(images_BCHW)
            maps = {name: outputs[name] for name in names if name in outputs}
    layers = []
    for info, name in zip(infos, names, strict=True):
        blocks = [outputs.get(child) for child in children[name]]
        if len(blocks) > 1 and all(_is_map(block, info["num_chs"]) for block in blocks):
            layers += [Layer(child, outputs[child]) for child in children[name]]
        elif name in maps and maps[name].ndim == 4:
            layers.append(Layer(name, maps[name]))
    if not layers:
        raise InputError(f"timm's {type(model).__name__} exposes no feature maps; name another model")
    return layers


def _feature_info(model: Any) -> list[dict[str, Any]]:
    found = getattr(model, "feature_info", None) or []
    return [info for info in found if info.get("module")]


def _child_names(name: str, modules: dict[str, nn.Module]) -> list[str]:
    """Return the names of a stage's children if it is an nn.Sequential."""
    stage = modules[name]
    return [f"{name}.{child}" for child, _ in stage.named_children()] if isinstance(stage, nn.Sequential) else []


def _is_map(output: Tensor | None, channels: int) -> bool:
    return output is not None and output.ndim == 4 and output.shape[1] == channels


def tokens_to_map(x: Tensor, grid: Grid) -> Tensor:
    """Reshape tokens [B, N, C] to a map [B, C, rows, columns]; a map is returned unchanged."""
    return x if x.ndim == 4 else x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *grid)


@contextmanager
def record_outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Record the output of each module in this context, by its name."""
    outputs: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs[name] = output.detach().clone()  # the next layer may modify it in place

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
