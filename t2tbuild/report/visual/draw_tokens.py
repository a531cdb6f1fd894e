"""Picture: how each soft split groups the pixels of an image into tokens."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from t2tbuild.parts import Grid
from t2tbuild.report.figure import BLUE, GREEN, ORANGE, new_figure
from t2tbuild.report.visual.canvas import Array, show_image
from t2tbuild.report.visual.receptive_field import (
    Box,
    Window,
    grids_of,
    overlap,
    receptive_box,
    receptive_spans,
    same_place,
)

NEIGHBOURS = (((0, 1), BLUE), ((1, 0), GREEN), ((1, 1), "#CC79A7"))
"""The tokens to the right of the chosen one, below it, and aslant; at the last row or column those before it."""


def draw_receptive_fields(
    image: Grid, windows: Sequence[Window], token: tuple[int, int], shown: Array, title: str
) -> Figure:
    """A panel a soft split: the pixels of one token, filled, and of three neighbours, so that their overlap is seen.

    `token` is a row and column of the last grid; in the stages before, the token at the same place of the image.
    """
    grids = grids_of(image, windows)
    wide = 3.4
    figure = new_figure(wide * len(windows), 1.3 + wide * image.height / image.width)
    panels = figure.subplots(1, len(windows), squeeze=False)[0]
    for number, (axes, grid) in enumerate(zip(panels, grids, strict=True)):
        below = windows[: number + 1]
        row, column = same_place(*token, grids[-1], grid)
        show_image(axes, shown // 2 + 100, _told(number, windows[number], grid, image, below, (row, column)))
        for (down, across), colour in NEIGHBOURS:
            beside = _inside(row, down, grid.height), _inside(column, across, grid.width)
            axes.add_patch(_outline(receptive_box(image, below, *beside), colour))
        axes.add_patch(_outline(receptive_box(image, below, row, column), ORANGE, alpha=0.45))
    told = "pixels of one token (filled) and of its neighbours, through the soft splits alone"
    figure.suptitle(f"{title}\n{told}", x=0.01, ha="left", fontsize=10)
    return figure


def _inside(place: int, step: int, side: int) -> int:
    """The neighbour's place: after this one, before it at the end, itself where there is no other."""
    return place + step if place + step < side else max(0, place - step)


def _outline(box: Box, colour: str, alpha: float | None = None) -> Rectangle:
    (top, bottom), (left, right) = box
    corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
    face = (colour, alpha) if alpha else "none"
    return Rectangle(corner, *size, facecolor=face, edgecolor=colour, linewidth=1.8)


def _told(number: int, window: Window, grid: Grid, image: Grid, below: Sequence[Window], token: tuple[int, int]) -> str:
    """What a stage does, over two lines: its window, its grid, the pixels that a token has and shares."""
    patch_size, stride, padding = window
    rows, columns = receptive_box(image, below, *token)
    across = receptive_spans(image.width, below)
    beside = across[_inside(token[1], 1, grid.width)]
    shared = overlap(columns, beside) if grid.width > 1 else 0
    size = f"{rows.stop - rows.start} x {columns.stop - columns.start} pixels"
    return (
        f"stage {number + 1}: {patch_size}x{patch_size} every {stride}, padding {padding}\n"
        f"{grid} tokens of {size}, {shared} columns shared"
    )
