"""The figures of a model, with their file names and descriptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from t2tbuild.errors import InputError
from t2tbuild.report.visual.attention import AttentionMaps, BlockAttention, attention_maps
from t2tbuild.report.visual.draw_attention import draw_all_blocks, draw_block, draw_stages
from t2tbuild.report.visual.draw_features import draw_layer_stats, draw_layers, draw_side_by_side
from t2tbuild.report.visual.draw_tokens import draw_receptive_fields
from t2tbuild.report.visual.features import Layer, LayerStats, extract_layers, measure_layer
from t2tbuild.report.visual.loaded_model import LoadedImage, LoadedModel, windows_of
from t2tbuild.report.visual.receptive_field import matching_token, token_grids

EVERY_BLOCK = "all"


class NamedFigure(NamedTuple):
    """A figure with the stem of its file name and a description."""

    stem: str
    shows: str
    figure: Figure


@dataclass(frozen=True)
class FeatureMaps:
    """A model, images, and the feature maps of the model's layers for these images, with statistics of each layer."""

    model: LoadedModel
    images: Sequence[LoadedImage]
    layers: Sequence[Layer]
    stats: Sequence[LayerStats]

    @property
    def title(self) -> str:
        first, others = self.images[0].name, len(self.images) - 1
        counted = f", dead in this and {others} more" if others else ""
        return f"{self.model.title}; image {first}{counted}"


def extract(model: LoadedModel, images: Sequence[LoadedImage]) -> FeatureMaps:
    """Extract the feature maps of a model. Raises InputError if no layer has a map of more than one position."""
    layers = extract_layers(model.module, torch.cat([image.tensor for image in images]))
    if not layers:
        message = f"for images of {model.image} pixels every layer has a single position"
        raise InputError(f"{model.name}: {message}; write a larger model.image_size")
    return FeatureMaps(model, images, layers, [measure_layer(layer) for layer in layers])


def draw_features(maps: Sequence[FeatureMaps]) -> list[NamedFigure]:
    """Draw channel grids of each model, the statistics of all, and for two models the comparison of Figure 2."""
    stems = ("features", "features_against")
    drawn = [
        NamedFigure(stem, f"feature maps of {one.model.name}, dead ones framed", draw_layers(one.layers, one.title))
        for stem, one in zip(stems, maps, strict=False)
    ]
    bars = draw_layer_stats([(one.model.title, one.stats) for one in maps])
    drawn.append(NamedFigure("channels", "dead channels and redundancy of each layer", bars))
    if len(maps) > 1:
        columns = [(one.model.title, one.images[0].pixels, one.layers) for one in maps]
        names = " against ".join(one.model.name for one in maps)
        drawn.append(NamedFigure("features_side_by_side", f"{names}, as in Figure 2", draw_side_by_side(columns)))
    return drawn


def draw_attention(
    model: LoadedModel, image: LoadedImage, token: tuple[int, int] | None, block: str
) -> list[NamedFigure]:
    """Draw the attention of a block or of all, its rollout, and the token attentions. Raises InputError."""
    chosen = resolve_token(model, token)
    last = token_grids(model.image, windows_of(model.module))[-1:]
    maps = attention_maps(model.module, image.tensor, lambda grid: matching_token(*chosen, last[0], grid))
    pixels, title = image.pixels, model.title
    if block == EVERY_BLOCK:
        figure, shows = draw_all_blocks(maps, pixels, title), "attention of every block, head by head"
    else:
        one = _find_block(maps, block)
        figure, shows = draw_block(maps, one, pixels, title), f"attention of {one.name}, head by head, and the rollout"
    drawn = [NamedFigure(f"attention_{image.name}", shows, figure)]
    if maps.stages:
        figure = draw_stages(maps.stages, pixels, title)
        drawn.append(NamedFigure(f"token_attention_{image.name}", "attention of one token in each stage", figure))
    return drawn


def draw_tokens(model: LoadedModel, image: LoadedImage, token: tuple[int, int] | None) -> list[NamedFigure]:
    """Draw the receptive fields of a token and its neighbours. Raises InputError if the model's windows are unknown."""
    windows = windows_of(model.module)
    if not windows:
        raise InputError(f"--what tokens: {model.name} has no patch tokens; leave the option out")
    figure = draw_receptive_fields(model.image, windows, resolve_token(model, token), image.pixels, model.title)
    return [NamedFigure(f"tokens_{image.name}", "receptive fields of a token in each soft split", figure)]


def resolve_token(model: LoadedModel, token: tuple[int, int] | None) -> tuple[int, int]:
    """Return the row and column of a token on the last grid: the given one or the middle; (0, 0) for a CNN.

    Raises InputError if the token is not on the grid.
    """
    windows = windows_of(model.module)
    if not windows:
        return 0, 0
    grid = token_grids(model.image, windows)[-1]
    row, column = token or (grid.height // 2, grid.width // 2)
    if not (0 <= row < grid.height and 0 <= column < grid.width):
        message = f"{row},{column} is not on the grid of {grid} tokens"
        raise InputError(f"--token {message}; write from 0,0 to {grid.height - 1},{grid.width - 1}")
    return row, column


def _find_block(maps: AttentionMaps, block: str) -> BlockAttention:
    """Return the block of a number, counted from the end if it is negative.

    In a dense backbone transitions count as blocks. Raises InputError if there is no such block.
    """
    named = {one.name: one for one in maps.blocks}
    if f"block {block}" in named:
        return named[f"block {block}"]
    number, count = int(block), len(maps.blocks)
    if not -count <= number < 0:
        raise InputError(f"--block {block}: no such block; there are {', '.join(named)}; or write all")
    return maps.blocks[number]
