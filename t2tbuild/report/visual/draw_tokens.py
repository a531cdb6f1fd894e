"""Figure of how each soft split groups the pixels of an image into tokens."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from t2tbuild.layout import Grid
from t2tbuild.report.figure import BLUE, GREEN, GREY, ORANGE, new_figure
from t2tbuild.report.visual.canvas import Array, add_title, show_image
from t2tbuild.report.visual.receptive_field import (
    Box,
    Window,
    matching_token,
    overlap,
    receptive_box,
    token_grids,
)

NEIGHBOURS = ((0, 1), (1, 0), (1, 1))
"""Offsets of the neighbours to the right, below and diagonal; at the last row or column those before it."""

COLOURS = (BLUE, GREEN, "#CC79A7")
PANEL_WIDTH = 3.3  # inches


def draw_receptive_fields(
    image: Grid, windows: Sequence[Window], token: tuple[int, int], pixels: Array, title: str
) -> Figure:
    """Draw a panel for each soft split with the receptive fields of a token, filled, and of three neighbours.

    `token` is a row and column of the last grid; earlier stages show the token at the same position in the image.
    """
    grids = token_grids(image, windows)
    tall = PANEL_WIDTH * image.height / image.width
    figure = new_figure(PANEL_WIDTH * len(windows), 1.2 + tall + PANEL_WIDTH)
    panels = figure.subplots(2, len(windows), squeeze=False, height_ratios=(tall, PANEL_WIDTH))
    for number, (full, zoomed, grid) in enumerate(zip(*panels, grids, strict=True)):
        stages = windows[: number + 1]
        row, column = matching_token(*token, grids[-1], grid)
        neighbours = [
            (_neighbour(row, down, grid.height), _neighbour(column, across, grid.width)) for down, across in NEIGHBOURS
        ]
        chosen, *others = (receptive_box(image, stages, *position) for position in [(row, column), *neighbours])
        for axes in (full, zoomed):
            show_image(axes, pixels // 2 + 100, "")
            for box, colour in zip(others, COLOURS, strict=True):
                axes.add_patch(_outline(box, colour))
            axes.add_patch(_outline(chosen, ORANGE, alpha=0.45))
        full.set_title(_stage_title(number, windows[number], grid, chosen, others[0]), fontsize=8)
        _zoom(zoomed, [chosen, *others], image)
    subtitle = "receptive fields of a token (filled) and its neighbours in the soft splits alone; enlarged below"
    add_title(figure, title, subtitle)
    return figure


def _zoom(axes: Axes, boxes: Sequence[Box], image: Grid) -> None:
    """Show a square around some boxes, and the border of the image."""
    middle = [(min(box[side].start for box in boxes) + max(box[side].stop for box in boxes)) / 2 for side in (0, 1)]
    reach = 0.65 * max(max(box[side].stop for box in boxes) - min(box[side].start for box in boxes) for side in (0, 1))
    axes.set(xlim=(middle[1] - reach, middle[1] + reach), ylim=(middle[0] + reach, middle[0] - reach))
    axes.add_patch(Rectangle((-0.5, -0.5), image.width, image.height, fill=False, edgecolor=GREY, linewidth=1))


def _neighbour(position: int, step: int, side: int) -> int:
    """Return the position after this one; at the end the one before it, or itself if there is no other."""
    return position + step if position + step < side else max(0, position - step)


def _outline(box: Box, colour: str, alpha: float | None = None) -> Rectangle:
    (top, bottom), (left, right) = box
    corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
    face = (colour, alpha) if alpha else "none"
    return Rectangle(corner, *size, facecolor=face, edgecolor=colour, linewidth=1.8)


def _stage_title(number: int, window: Window, grid: Grid, chosen: Box, neighbour: Box) -> str:
    """Return a title of two lines: the stage's window, its grid, and the pixels that a token covers and shares."""
    patch_size, stride, padding = window
    rows, columns = chosen
    shared = overlap(columns, neighbour.columns) if neighbour != chosen else 0
    size = f"{rows.stop - rows.start} x {columns.stop - columns.start} pixels"
    return (
        f"stage {number + 1}: {patch_size}x{patch_size} every {stride}, padding {padding}\n"
        f"{grid} tokens of {size}, {shared} columns shared"
    )
