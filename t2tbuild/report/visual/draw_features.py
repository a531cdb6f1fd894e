"""Figures of feature maps (Figure 2): grids of channels with the dead ones framed, and statistics of each layer."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from t2tbuild.report.figure import BLUE, ORANGE, new_figure
from t2tbuild.report.visual.canvas import DEAD_COLOUR, MAX_TILE, Array, add_title, show_image
from t2tbuild.report.visual.features import DEAD_BELOW, Layer, LayerStats, dead_channels, spatial_deviation

PANELS = 5  # per row
CHANNELS, CHANNELS_BESIDE = 49, 25  # channels drawn of a layer: in a grid of all layers, and in Figure 2
CONTRAST = 2.5  # standard deviations from black to grey, and from grey to white
MIN_DEVIATION = 0.5
"""The smallest unit of a channel's scale, as a fraction of the layer's median deviation: noise is not amplified."""
LEGEND = (
    "evenly spaced channels of each layer, centered at their means, in standard deviations\n"
    f"framed: dead; the deviation is at most {DEAD_BELOW:.0%} of the layer's median in every image"
)


def draw_layers(layers: Sequence[Layer], title: str) -> Figure:
    """Draw a panel for each layer with up to 49 evenly spaced channels, for the first image."""
    rows = math.ceil(len(layers) / PANELS)
    tall = max(layer.grid.height / layer.grid.width for layer in layers)
    figure = new_figure(2.3 * PANELS, 0.9 + rows * (2.2 * tall + 0.35))
    panels = figure.subplots(rows, PANELS, squeeze=False).flatten()
    for axes, layer in zip(panels, layers, strict=False):
        _draw_channels(axes, layer, CHANNELS)
    for axes in panels[len(layers) :]:
        axes.set_axis_off()
    add_title(figure, title, LEGEND)
    return figure


def draw_side_by_side(columns: Sequence[tuple[str, Array, Sequence[Layer]]]) -> Figure:
    """Draw Figure 2 of the paper: for each model the image, then its first, middle and last layer."""
    figure = new_figure(3.3 * len(columns), 12.8)
    axes_of = figure.subplots(4, len(columns), squeeze=False, height_ratios=(0.5, 1, 1, 1))
    for number, (title, pixels, layers) in enumerate(columns):
        show_image(axes_of[0][number], pixels, title)
        chosen = (layers[0], layers[len(layers) // 2], layers[-1])
        for axes, layer in zip(axes_of[1:, number], chosen, strict=True):
            _draw_channels(axes, layer, CHANNELS_BESIDE)
    add_title(figure, "Features at the start, the middle and the end", LEGEND)
    return figure


def draw_layer_stats(models: Sequence[tuple[str, Sequence[LayerStats]]]) -> Figure:
    """Draw bars for every layer: the share of dead channels, and redundancy; one row of axes for each model."""
    heights = [1 + 0.24 * len(layers) for _, layers in models]
    figure = new_figure(9, 1 + sum(heights))
    axes_of = figure.subplots(len(models), 2, squeeze=False, sharey="row", height_ratios=heights)
    most = max(layer.dead_share for _, layers in models for layer in layers)
    for (dead, redundancy), (title, layers) in zip(axes_of, models, strict=True):
        rows = range(len(layers))
        dead.barh(rows, [100 * layer.dead_share for layer in layers], color=DEAD_COLOUR)
        redundancy.barh(rows, [layer.redundancy or 0 for layer in layers], color=BLUE)
        for row, layer in zip(rows, layers, strict=True):
            _annotate(dead, f"{layer.dead} of {layer.channels}", 100 * layer.dead_share, row)
            value = "-" if layer.redundancy is None else f"{layer.redundancy:.2f}"
            _annotate(redundancy, value, layer.redundancy or 0, row)
        dead.set(xlim=(0, max(5, 128 * most)), xlabel="dead channels, %")
        dead.set_title(f"{title}: {_dead_total(layers)}", fontsize=9, loc="left")
        redundancy.plot([layer.chance for layer in layers], rows, "|", color=ORANGE, markersize=9, markeredgewidth=2)
        redundancy.set(xlim=(0, 1), xlabel="redundancy: mean |correlation|; orange: white noise")
        dead.set_yticks(rows, [_row_name(layer) for layer in layers], fontsize=7)
        dead.set_ylim(len(layers) - 0.4, -0.6)
        for axes in (dead, redundancy):
            axes.grid(axis="x", alpha=0.3)
            axes.set_axisbelow(True)
    add_title(figure, "Dead channels and redundancy, layer by layer", "")
    return figure


def _dead_total(layers: Sequence[LayerStats]) -> str:
    dead, channels = sum(layer.dead for layer in layers), sum(layer.channels for layer in layers)
    return f"{dead:,} of {channels:,} dead ({dead / channels:.1%})"


def _row_name(layer: LayerStats) -> str:
    return f"{layer.name} ({layer.grid})"


def _annotate(axes: Axes, text: str, x: float, row: int) -> None:
    axes.annotate(text, (x, row), (3, 0), textcoords="offset points", va="center", fontsize=7)


def _draw_channels(axes: Axes, layer: Layer, most: int) -> None:
    """Draw up to `most` of the layer's channels as tiles, the dead ones framed."""
    dead_C = dead_channels(layer.maps)
    chosen = torch.linspace(0, layer.channels - 1, min(most, layer.channels)).round().long()
    tiles = _tiles(layer, chosen)
    count, height, width = tiles.shape
    across = math.ceil(math.sqrt(count))
    gap = max(1, width // 12)
    canvas = np.full((math.ceil(count / across) * (height + gap) - gap, across * (width + gap) - gap), np.nan)
    for number, tile in enumerate(tiles):
        top, left = number // across * (height + gap), number % across * (width + gap)
        canvas[top : top + height, left : left + width] = tile
        if dead_C[chosen[number]]:
            axes.add_patch(
                Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=DEAD_COLOUR, linewidth=1.5)
            )
    axes.imshow(canvas, cmap="gray", vmin=-CONTRAST, vmax=CONTRAST)
    axes.set_axis_off()
    dead = int(dead_C.sum())
    title = f"{layer.name}: {layer.channels} channels, {layer.grid}" + (f", {dead} dead" if dead else "")
    axes.set_title(title, fontsize=8)


def _tiles(layer: Layer, chosen: torch.Tensor) -> Array:
    """Return tiles [K, rows, columns] of the first image, centered, in deviations, at most MAX_TILE pixels a side."""
    maps_1CHW = layer.maps[:1]
    deviation_C = spatial_deviation(maps_1CHW)
    unit_C = torch.maximum(deviation_C, MIN_DEVIATION * deviation_C.median()).clamp_min(torch.finfo(torch.float32).tiny)
    tiles_KHW = ((maps_1CHW - maps_1CHW.mean(dim=(2, 3), keepdim=True)) / unit_C[:, None, None])[0, chosen]
    shrink = MAX_TILE / max(layer.grid)
    if shrink < 1:
        height, width = (max(1, round(side * shrink)) for side in layer.grid)
        tiles_KHW = F.adaptive_avg_pool2d(tiles_KHW, (height, width))
    return tiles_KHW.numpy()
