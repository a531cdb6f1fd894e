"""What the pictures of this room share: images under maps, channels as tiles, and the colours of both."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

HEAT = "inferno"
DEAD = "#D55E00"
"""The frame of a dead channel: vermilion, which tells apart from gray without colour vision."""

TILE = 56
"""Pixels of the longest side at which a channel is drawn."""

Array = np.ndarray


def show_image(axes: Axes, shown: Array, title: str) -> None:
    """An image with its title and no ticks."""
    axes.imshow(shown)
    axes.set_title(title, fontsize=8)
    axes.set(xticks=[], yticks=[])


def show_heat(axes: Axes, shown: Array, heat: Array, norm: Normalize, title: str) -> AxesImage:
    """A map of numbers, [rows, columns] of any size, laid over the image in gray."""
    height, width = shown.shape[:2]
    gray = shown.astype(float).mean(axis=2)
    show_image(axes, np.repeat(gray[:, :, None] / 255, 3, axis=2), title)
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    return axes.imshow(heat, cmap=HEAT, norm=norm, alpha=0.65, extent=edges, interpolation="nearest")


def entitle(figure: Figure, title: str, message: str) -> None:
    """A title above a figure's panels, and what is told of them beneath it."""
    figure.suptitle(f"{title}\n{message}".strip(), x=0.01, ha="left", fontsize=10)
