"""Helpers of all figures in this package: images, heatmaps over images, titles and colours."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

HEATMAP_COLOURS = "inferno"
DEAD_COLOUR = "#D55E00"
"""Frame of a dead channel: vermilion, which is distinct from gray also for colour-blind readers."""

MAX_TILE = 56
"""The longest side of a drawn channel in pixels."""

Array = np.ndarray


def show_image(axes: Axes, pixels: Array, title: str) -> None:
    """Show an image with its title and no ticks."""
    axes.imshow(pixels)
    axes.set_title(title, fontsize=8)
    axes.set(xticks=[], yticks=[])


def show_heatmap(axes: Axes, pixels: Array, heat: Array, norm: Normalize, title: str) -> AxesImage:
    """Show a map of numbers, [rows, columns] of any size, over the image in gray."""
    height, width = pixels.shape[:2]
    gray = pixels.astype(float).mean(axis=2)
    show_image(axes, np.repeat(gray[:, :, None] / 255, 3, axis=2), title)
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    return axes.imshow(heat, cmap=HEATMAP_COLOURS, norm=norm, alpha=0.65, extent=edges, interpolation="nearest")


def add_title(figure: Figure, title: str, subtitle: str) -> None:
    """Add a title and a subtitle above a figure's panels."""
    figure.suptitle(f"{title}\n{subtitle}".strip(), x=0.01, ha="left", fontsize=10)
