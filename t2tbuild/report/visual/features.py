"""Feature maps of a model's layers, and two numbers for each layer: dead channels, and how alike the others are."""

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
from t2tbuild.report.visual.receptive_field import grids_of

DEAD_BELOW = 0.05
"""Share of the layer's median spatial deviation up to which a channel is dead."""

ROUNDING = 1e-6
"""Spatial deviation, over the layer's largest value, up to which a channel is dead whatever the others do."""


@dataclass(frozen=True)
class Layer:
    """A layer's feature maps of some images, [B, C, rows, columns]."""

    name: str
    maps: Tensor

    @property
    def channels(self) -> int:
        return self.maps.shape[1]

    @property
    def grid(self) -> Grid:
        return Grid(*self.maps.shape[2:])


@dataclass(frozen=True)
class LayerFigures:
    """What is counted of a layer: see `dead_channels` and `redundancy`; `chance` is what white noise would have."""

    name: str
    channels: int
    grid: Grid
    dead: int
    redundancy: float | None
    chance: float

    @property
    def dead_share(self) -> float:
        return self.dead / self.channels


def figures_of(layer: Layer) -> LayerFigures:
    """Dead channels and redundancy of a layer."""
    dead = int(dead_channels(layer.maps).sum())
    found = redundancy(layer.maps)
    return LayerFigures(layer.name, layer.channels, layer.grid, dead, found, chance_of(layer.grid))


def spatial_deviation(maps_BCHW: Tensor) -> Tensor:
    """[B, C, rows, columns] -> [C]: a channel's deviation over an image's places, the largest of all images."""
    return maps_BCHW.flatten(2).std(dim=2, correction=0).amax(dim=0)


def dead_channels(maps_BCHW: Tensor) -> Tensor:
    """Which channels are dead, [B, C, rows, columns] -> [C] of bool: flat in every image given.

    With s the standard deviation of a channel over the places of an image, the largest of all images, a channel is dead
    where s <= 0.05 median(s), the layer's median (of an even number the lower one), or where s is no more than
    rounding, 1e-6 of the channel's largest value. Zeros and large constants are both flat: the paper frames in red
    "invalid feature maps with zero or too large values" (Figure 2) and gives no threshold.
    """
    deviation_C = spatial_deviation(maps_BCHW)
    rounding_C = ROUNDING * maps_BCHW.abs().amax(dim=(0, 2, 3))
    return deviation_C <= torch.maximum(DEAD_BELOW * deviation_C.median(), rounding_C)


def redundancy(maps_BCHW: Tensor) -> float | None:
    """How alike the living channels are, 0 to 1: the mean of |r| over all pairs and images; None with fewer than two.

    r is Pearson's correlation of two channels over the places of an image. 1 says that every channel is every other
    one up to scale, sign and offset, which is how the paper explains that ViT needs so many (Section 1).
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


def chance_of(grid: Grid) -> float:
    """The mean |r| of white noise on a grid of n places, about sqrt(2 / (pi (n - 1))): small grids look redundant."""
    return math.sqrt(2 / (math.pi * max(1, grid.tokens - 1)))


@torch.no_grad()
def layers_of(model: nn.Module, images_BCHW: Tensor) -> list[Layer]:
    """The feature maps of every stage and block, in the order in which an image passes them.

    Of our models: what each token attention (or convolution) gives out, the tokens, and each block. Of timm's: what
    `forward_intermediates` gives, and the blocks of stages that are sequences of such maps. Tokens are laid out as a
    map without the prefix tokens. Layers with one place only are left out: they have no spatial pattern.

    Raises InputError where a model of timm does not give its features.
    """
    model.eval()
    found = _of_ours(model, images_BCHW) if isinstance(model, T2TViT) else _of_timms(model, images_BCHW)
    return [layer for layer in found if layer.grid.tokens > 1]


def _of_ours(model: T2TViT, images_BCHW: Tensor) -> list[Layer]:
    tokenizer = model.tokens_to_token
    stage = "soft_split" if isinstance(tokenizer, ConvTokenizer) else "attention"
    below = {name: part for name, part in tokenizer.named_children() if name.startswith(stage)}
    grids = grids_of(Grid(*images_BCHW.shape[2:]), tokenizer.windows)
    with recorded({**below, "tokens": tokenizer}) as outputs:
        maps = model.forward_intermediates(images_BCHW, intermediates_only=True)
    stages = [
        Layer(f"stage {number}" if name in below else "tokens", as_map(outputs[name], grid))
        for number, (name, grid) in enumerate(zip([*below, "tokens"], grids, strict=True), start=1)
    ]
    named = zip(model.blocks, maps, strict=True)
    return [*stages, *(Layer(_name(block, index), found) for index, (block, found) in enumerate(named))]


def _name(block: nn.Module, index: int) -> str:
    return f"transition {index}" if isinstance(block, Transition) else f"block {index}"


def _of_timms(model: Any, images_BCHW: Tensor) -> list[Layer]:
    """Stages by `forward_intermediates`, else by hooks; a stage that is a sequence of maps of its width, map by map."""
    message: list[dict[str, Any]] = _feature_info(model)
    modules = dict(model.named_modules())
    message = [info for info in message if info["module"] in modules]
    names = [info["module"] for info in message]
    inside = {name: _steps(name, modules) for name in names}
    watched = {name: modules[name] for name in [*names, *(step for steps in inside.values() for step in steps)]}
    with recorded(watched) as outputs:
        if hasattr(model, "forward_intermediates"):
            maps = dict(zip(names, model.forward_intermediates(images_BCHW, intermediates_only=True), strict=False))
        else:
            model(images_BCHW)
            maps = {name: outputs[name] for name in names if name in outputs}
    layers = []
    for info, name in zip(message, names, strict=True):
        steps = [outputs.get(step) for step in inside[name]]
        if len(steps) > 1 and all(_is_map(step, info["num_chs"]) for step in steps):
            layers += [Layer(step, outputs[step]) for step in inside[name]]
        elif name in maps and maps[name].ndim == 4:
            layers.append(Layer(name, maps[name]))
    if not layers:
        raise InputError(f"timm's {type(model).__name__} gives no feature maps; name another model")
    return layers


def _feature_info(model: Any) -> list[dict[str, Any]]:
    found = getattr(model, "feature_info", None) or []
    return [info for info in found if info.get("module")]


def _steps(name: str, modules: dict[str, nn.Module]) -> list[str]:
    """The names of a stage's own parts, where it is a plain sequence of them."""
    stage = modules[name]
    return [f"{name}.{child}" for child, _ in stage.named_children()] if isinstance(stage, nn.Sequential) else []


def _is_map(output: Tensor | None, channels: int) -> bool:
    return output is not None and output.ndim == 4 and output.shape[1] == channels


def as_map(x: Tensor, grid: Grid) -> Tensor:
    """Tokens [B, N, C] laid out as a map [B, C, rows, columns]; a map stays."""
    return x if x.ndim == 4 else x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *grid)


@contextmanager
def recorded(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """What each module gives out within this context, by its name."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs[name] = output.detach().clone()  # the next layer may work in place

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
