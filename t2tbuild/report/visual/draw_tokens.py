"""Picture: how each soft split groups the pixels of an image into tokens."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from t2tbuild.layout import Grid
from t2tbuild.report.figure import BLUE, GREEN, GREY, ORANGE, new_figure
from t2tbuild.report.visual.canvas import Array, entitle, show_image
from t2tbuild.report.visual.receptive_field import (
    Box,
    Window,
    grids_of,
    overlap,
    receptive_box,
    same_place,
)

NEIGHBOURS = ((0, 1), (1, 0), (1, 1))
"""The tokens to the right of the chosen one, below it, and aslant; at the last row or column those before it."""

COLOURS = (BLUE, GREEN, "#CC79A7")
WIDE = 3.3  # inches of a panel


def draw_receptive_fields(
    image: Grid, windows: Sequence[Window], token: tuple[int, int], shown: Array, title: str
) -> Figure:
    """A panel a soft split: the pixels of one token, filled, and of three neighbours, so that their overlap is seen.

    `token` is a row and column of the last grid; in the stages before, the token at the same place of the image.
    """
    grids = grids_of(image, windows)
    tall = WIDE * image.height / image.width
    figure = new_figure(WIDE * len(windows), 1.2 + tall + WIDE)
    panels = figure.subplots(2, len(windows), squeeze=False, height_ratios=(tall, WIDE))
    for number, (whole, near, grid) in enumerate(zip(*panels, grids, strict=True)):
        below = windows[: number + 1]
        row, column = same_place(*token, grids[-1], grid)
        beside = [(_inside(row, down, grid.height), _inside(column, across, grid.width)) for down, across in NEIGHBOURS]
        chosen, *others = (receptive_box(image, below, *place) for place in [(row, column), *beside])
        for axes in (whole, near):
            show_image(axes, shown // 2 + 100, "")
            for box, colour in zip(others, COLOURS, strict=True):
                axes.add_patch(_outline(box, colour))
            axes.add_patch(_outline(chosen, ORANGE, alpha=0.45))
        whole.set_title(_told(number, windows[number], grid, chosen, others[0]), fontsize=8)
        _look_near(near, [chosen, *others], image)
    message = "pixels of one token (filled) and of its neighbours, through the soft splits alone; below enlarged"
    entitle(figure, title, message)
    return figure


def _look_near(axes: Axes, boxes: Sequence[Box], image: Grid) -> None:
    """Show a square about some boxes, and a frame around what is outside of the image."""
    middle = [(min(box[side].start for box in boxes) + max(box[side].stop for box in boxes)) / 2 for side in (0, 1)]
    reach = 0.65 * max(max(box[side].stop for box in boxes) - min(box[side].start for box in boxes) for side in (0, 1))
    axes.set(xlim=(middle[1] - reach, middle[1] + reach), ylim=(middle[0] + reach, middle[0] - reach))
    axes.add_patch(Rectangle((-0.5, -0.5), image.width, image.height, fill=False, edgecolor=GREY, linewidth=1))


def _inside(place: int, step: int, side: int) -> int:
    """The neighbour's place: after this one, before it at the end, itself where there is no other."""
    return place + step if place + step < side else max(0, place - step)


def _outline(box: Box, colour: str, alpha: float | None = None) -> Rectangle:
    (top, bottom), (left, right) = box
    corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
    face = (colour, alpha) if alpha else "none"
    return Rectangle(corner, *size, facecolor=face, edgecolor=colour, linewidth=1.8)


def _told(number: int, window: Window, grid: Grid, chosen: Box, beside: Box) -> str:
    """What a stage does, over two lines: its window, its grid, the pixels that a token has and shares."""
    patch_size, stride, padding = window
    rows, columns = chosen
    shared = overlap(columns, beside.columns) if beside != chosen else 0
    size = f"{rows.stop - rows.start} x {columns.stop - columns.start} pixels"
    return (
        f"stage {number + 1}: {patch_size}x{patch_size} every {stride}, padding {padding}\n"
        f"{grid} tokens of {size}, {shared} columns shared"
    )
