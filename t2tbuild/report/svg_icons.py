"""Little drawings of what a model works on: the image, grids of tokens, overlapping windows, rows of tokens."""

import math
from collections.abc import Iterator, Sequence

from t2tbuild.layout import Grid
from t2tbuild.report.svg_primitives import Path, Rect, Shape, Text, line, number
from t2tbuild.spec.tokenizer import Window

LEAST_CELL = 1.1
"""Pixels of a cell below which no lines are drawn between cells."""

TOKEN, STEP = 10, 13
"""The side of a token's drawing in a row of them, and from where to where it is to the next."""


def grid_size(grid: Grid, longest: float) -> tuple[float, float]:
    """Width and height of a grid's drawing whose longer side is `longest`; no side is thinner than 4 pixels."""
    scale = longest / max(grid)
    return max(4, grid.width * scale), max(4, grid.height * scale)


def image_glyph(x: float, y: float, image: Grid, longest: float, window: Window) -> Iterator[Shape]:
    """An image, the places of its patches as a grid over it, and two neighbouring patches."""
    width, height = grid_size(image, longest)
    yield Rect(x, y, width, height, "sky")
    ground = [(0, 0.78), (0.3, 0.42), (0.52, 0.7), (0.7, 0.52), (1, 0.86), (1, 1), (0, 1)]
    yield Path(line(*[(x + width * right, y + height * down) for right, down in ground]) + "Z", "hills")
    radius = 0.1 * min(width, height)
    centre = f"{number(x + 0.72 * width - radius)} {number(y + 0.24 * height)}"
    yield Path(f"M{centre}a{number(radius)} {number(radius)} 0 1 1 0 0.1Z", "sun")
    scale = longest / max(image)
    yield from _lines(x, y, width, height, window.stride * scale)
    yield Rect(x, y, width, height, "frame")
    left, top = (window.stride * (side // 3) - window.pad for side in window.grid(image)[::-1])
    side = window.patch_size * scale
    for step, look in enumerate(("first", "second")):
        across = x + (left + step * window.stride) * scale
        if x <= across and across + side <= x + width and top >= 0 and side >= LEAST_CELL:
            yield Rect(across, y + top * scale, side, side, f"patch {look}-fill")
            yield Rect(across, y + top * scale, side, side, f"patch {look}-line")


def grid_glyph(x: float, y: float, grid: Grid, channels: int, longest: float) -> Iterator[Shape]:
    """A grid of tokens as the front of a block, which is the deeper the more channels a token has."""
    width, height = grid_size(grid, longest)
    depth = block_depth(channels)
    right, bottom = x + width, y + depth + height
    top = [(x, y + depth), (x + depth, y), (right + depth, y), (right, y + depth)]
    side = [(right, y + depth), (right + depth, y), (right + depth, bottom - depth), (right, bottom)]
    yield Path(line(*top) + "Z", "top")
    yield Path(line(*side) + "Z", "side")
    yield Rect(x, y + depth, width, height, "front")
    yield from _lines(x, y + depth, width, height, longest / max(grid))
    yield Rect(x, y + depth, width, height, "frame")


def block_depth(channels: int) -> float:
    """How deep a block is drawn: its channels in doublings.

    >>> block_depth(64), block_depth(128)
    (9.0, 10.5)
    """
    return 1.5 * math.log2(max(2, channels))


def _lines(x: float, y: float, width: float, height: float, cell: float) -> Iterator[Shape]:
    if cell < LEAST_CELL:
        return
    columns, rows = (range(1, math.ceil(side / cell - 1e-6)) for side in (width, height))
    d = "".join(f"M{number(x + cell * column)} {number(y)}v{number(height)}" for column in columns)
    d += "".join(f"M{number(x)} {number(y + cell * row)}h{number(width)}" for row in rows)
    if d:
        yield Path(d, "mesh" if cell >= 3 else "fine mesh")


def window_glyph(right: float, middle: float, window: Window, room: tuple[float, float]) -> Iterator[Shape]:
    """Two neighbouring patches with what they share, cell by cell where cells are large enough; ends at `right`."""
    columns, rows = window.patch_size + window.stride, window.patch_size
    cell = min(room[0] / columns, room[1] / rows, 9)
    side, x, y = cell * rows, right - cell * columns, middle - cell * rows / 2
    yield Rect(x, y, side, side, "patch first-fill")
    yield Rect(x + cell * window.stride, y, side, side, "patch second-fill")
    if cell >= 3:
        yield from _lines(x, y, cell * columns, side, cell)
    yield Rect(x, y, side, side, "patch first-line")
    yield Rect(x + cell * window.stride, y, side, side, "patch second-line")


def token_glyph(x: float, y: float, learned: int, width: float, *, more: bool = False) -> Iterator[Shape]:
    """Tokens in a row, the learned ones in front in a colour of their own; dots where there are more than fit."""
    shown = int((width - 12 * more) // STEP)
    for index in range(shown):
        yield Rect(x + index * STEP, y, TOKEN, TOKEN, "learned" if index < learned else "token", 2)
    if more:
        yield Text(x + shown * STEP, y + TOKEN - 1, "…", 11, "muted")


def profile_glyph(x: float, middle: float, values: Sequence[float], room: tuple[float, float]) -> Iterator[Shape]:
    """A bar for each block, as high as its value."""
    step, scale, bottom = min(room[0] / len(values), 8), room[1] / max(values), number(middle + room[1] / 2)
    bars = (
        f"M{number(x + step * index)} {bottom}v{number(-value * scale)}h{number(step * 0.75)}v{number(value * scale)}Z"
        for index, value in enumerate(values)
    )
    yield Path("".join(bars), "profile")
