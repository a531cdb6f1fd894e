"""The pictures of a model: which there are, what their files are called, and what each shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from t2tbuild.errors import InputError
from t2tbuild.report.visual.attention import AttentionMaps, BlockAttention, attention_maps
from t2tbuild.report.visual.draw_attention import draw_all_blocks, draw_block, draw_stages
from t2tbuild.report.visual.draw_features import draw_figures, draw_layers, draw_side_by_side
from t2tbuild.report.visual.draw_tokens import draw_receptive_fields
from t2tbuild.report.visual.features import Layer, LayerFigures, figures_of, layers_of
from t2tbuild.report.visual.loaded_model import LoadedModel, Picture, windows_of
from t2tbuild.report.visual.receptive_field import grids_of, same_place

EVERY_BLOCK = "all"


class NamedFigure(NamedTuple):
    """A picture by the stem of its file's name, and what it shows."""

    stem: str
    shows: str
    figure: Figure


@dataclass(frozen=True)
class FeatureMaps:
    """A model, its images, and its layers' feature maps of them with what is counted of each."""

    subject: LoadedModel
    pictures: Sequence[Picture]
    layers: Sequence[Layer]
    figures: Sequence[LayerFigures]

    @property
    def title(self) -> str:
        first, others = self.pictures[0].name, len(self.pictures) - 1
        counted = f", dead in it and {others} more" if others else ""
        return f"{self.subject.title}; image {first}{counted}"


def extract(subject: LoadedModel, pictures: Sequence[Picture]) -> FeatureMaps:
    """Run the model on its images. Raises InputError where no layer gives a feature map of more than one place."""
    layers = layers_of(subject.model, torch.cat([picture.read for picture in pictures]))
    if not layers:
        message = f"images of {subject.image} pixels leave every layer a single place"
        raise InputError(f"{subject.name}: {message}; write a larger model.image_size")
    return FeatureMaps(subject, pictures, layers, [figures_of(layer) for layer in layers])


def draw_features(seen: Sequence[FeatureMaps]) -> list[NamedFigure]:
    """Grids of channels for each model, the bars of all, and Figure 2's comparison where there are two."""
    stems = ("features", "features_against")
    drawn = [
        NamedFigure(stem, f"feature maps of {one.subject.name}, dead ones framed", draw_layers(one.layers, one.title))
        for stem, one in zip(stems, seen, strict=False)
    ]
    bars = draw_figures([(one.subject.title, one.figures) for one in seen])
    drawn.append(NamedFigure("channels", "dead channels and redundancy of each layer", bars))
    if len(seen) > 1:
        columns = [(one.subject.title, one.pictures[0].shown, one.layers) for one in seen]
        names = " against ".join(one.subject.name for one in seen)
        drawn.append(NamedFigure("features_side_by_side", f"{names}, as in Figure 2", draw_side_by_side(columns)))
    return drawn


def draw_attention(
    subject: LoadedModel, picture: Picture, token: tuple[int, int] | None, block: str
) -> list[NamedFigure]:
    """Attention of a block, or of all, rolled out, and of the tokenizer's stages. Raises InputError as it says."""
    chosen = token_of(subject, token)
    last = grids_of(subject.image, windows_of(subject.model))[-1:]
    maps = attention_maps(subject.model, picture.read, lambda grid: same_place(*chosen, last[0], grid))
    shown, title = picture.shown, subject.title
    if block == EVERY_BLOCK:
        figure, shows = draw_all_blocks(maps, shown, title), "attention of every block, head by head"
    else:
        one = _block(maps, block)
        figure, shows = draw_block(maps, one, shown, title), f"attention of {one.name}, head by head, and rolled out"
    drawn = [NamedFigure(f"attention_{picture.name}", shows, figure)]
    if maps.stages:
        figure = draw_stages(maps.stages, shown, title)
        drawn.append(NamedFigure(f"token_attention_{picture.name}", "attention of one token in each stage", figure))
    return drawn


def draw_tokens(subject: LoadedModel, picture: Picture, token: tuple[int, int] | None) -> list[NamedFigure]:
    """The pixels behind a token and its neighbours. Raises InputError where a model's windows are not known."""
    windows = windows_of(subject.model)
    if not windows:
        raise InputError(f"--what tokens: {subject.name} does not make tokens of patches; leave it out")
    figure = draw_receptive_fields(subject.image, windows, token_of(subject, token), picture.shown, subject.title)
    return [NamedFigure(f"tokens_{picture.name}", "pixels that each soft split groups into a token", figure)]


def token_of(subject: LoadedModel, token: tuple[int, int] | None) -> tuple[int, int]:
    """The chosen row and column of the last grid, the middle one where none is named; 0, 0 of a CNN, which has none.

    Raises InputError for one that is not on the grid.
    """
    windows = windows_of(subject.model)
    if not windows:
        return 0, 0
    grid = grids_of(subject.image, windows)[-1]
    row, column = token or (grid.height // 2, grid.width // 2)
    if not (0 <= row < grid.height and 0 <= column < grid.width):
        message = f"{row},{column} is not on the grid of {grid} tokens"
        raise InputError(f"--token {message}; write from 0,0 to {grid.height - 1},{grid.width - 1}")
    return row, column


def _block(maps: AttentionMaps, block: str) -> BlockAttention:
    """The block of the number that its name has, or from the end where it is negative.

    In a dense backbone transitions are counted, too. Raises InputError where there is none.
    """
    named = {one.name: one for one in maps.blocks}
    if f"block {block}" in named:
        return named[f"block {block}"]
    number, count = int(block), len(maps.blocks)
    if not -count <= number < 0:
        raise InputError(f"--block {block}: no such block; there are {', '.join(named)}; or write all")
    return maps.blocks[number]
