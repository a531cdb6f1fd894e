"""Icons of a diagram: the image, token grids, overlapping windows, rows of tokens, profiles over blocks."""

import math
from collections.abc import Iterator, Sequence

from t2tbuild.layout import Grid
from t2tbuild.report.svg_primitives import Path, Rect, Shape, Text, polyline
from t2tbuild.report.svg_primitives import format_coordinate as fmt
from t2tbuild.spec.tokenizer import Window

MIN_CELL = 1.1
"""Below this cell size in pixels no grid lines are drawn."""

TOKEN, STEP = 10, 13
"""The side of a token in a row of tokens, and the distance between tokens."""


def grid_size(grid: Grid, longest: float) -> tuple[float, float]:
    """Return the width and height of a grid whose longer side is `longest` pixels; each side has at least 4 pixels."""
    scale = longest / max(grid)
    return max(4, grid.width * scale), max(4, grid.height * scale)


def image_icon(x: float, y: float, image: Grid, longest: float, window: Window) -> Iterator[Shape]:
    """Draw an image with its patch grid and two neighbouring patches."""
    width, height = grid_size(image, longest)
    yield Rect(x, y, width, height, "sky")
    ground = [(0, 0.78), (0.3, 0.42), (0.52, 0.7), (0.7, 0.52), (1, 0.86), (1, 1), (0, 1)]
    yield Path(polyline(*[(x + width * right, y + height * down) for right, down in ground]) + "Z", "hills")
    radius = 0.1 * min(width, height)
    centre = f"{fmt(x + 0.72 * width - radius)} {fmt(y + 0.24 * height)}"
    yield Path(f"M{centre}a{fmt(radius)} {fmt(radius)} 0 1 1 0 0.1Z", "sun")
    scale = longest / max(image)
    yield from _grid_lines(x, y, width, height, window.stride * scale)
    yield Rect(x, y, width, height, "frame")
    left, top = (window.stride * (side // 3) - window.pad for side in window.grid(image)[::-1])
    side = window.patch_size * scale
    for step, css_class in enumerate(("first", "second")):
        across = x + (left + step * window.stride) * scale
        if x <= across and across + side <= x + width and top >= 0 and side >= MIN_CELL:
            yield Rect(across, y + top * scale, side, side, f"patch {css_class}-fill")
            yield Rect(across, y + top * scale, side, side, f"patch {css_class}-line")


def grid_icon(x: float, y: float, grid: Grid, channels: int, longest: float) -> Iterator[Shape]:
    """Draw a token grid as the front of a block; the depth of the block stands for the number of channels."""
    width, height = grid_size(grid, longest)
    depth = block_depth(channels)
    right, bottom = x + width, y + depth + height
    top = [(x, y + depth), (x + depth, y), (right + depth, y), (right, y + depth)]
    side = [(right, y + depth), (right + depth, y), (right + depth, bottom - depth), (right, bottom)]
    yield Path(polyline(*top) + "Z", "top")
    yield Path(polyline(*side) + "Z", "side")
    yield Rect(x, y + depth, width, height, "front")
    yield from _grid_lines(x, y + depth, width, height, longest / max(grid))
    yield Rect(x, y + depth, width, height, "frame")


def block_depth(channels: int) -> float:
    """Return the depth of a drawn block, proportional to log2 of the channels.

    >>> block_depth(64), block_depth(128)
    (9.0, 10.5)
    """
    return 1.5 * math.log2(max(2, channels))


def _grid_lines(x: float, y: float, width: float, height: float, cell: float) -> Iterator[Shape]:
    if cell < MIN_CELL:
        return
    columns, rows = (range(1, math.ceil(side / cell - 1e-6)) for side in (width, height))
    d = "".join(f"M{fmt(x + cell * column)} {fmt(y)}v{fmt(height)}" for column in columns)
    d += "".join(f"M{fmt(x)} {fmt(y + cell * row)}h{fmt(width)}" for row in rows)
    if d:
        yield Path(d, "mesh" if cell >= 3 else "fine mesh")


def window_icon(right: float, middle: float, window: Window, size: tuple[float, float]) -> Iterator[Shape]:
    """Draw two neighbouring patches and their overlap, with grid lines if cells are large enough; ends at `right`."""
    columns, rows = window.patch_size + window.stride, window.patch_size
    cell = min(size[0] / columns, size[1] / rows, 9)
    side, x, y = cell * rows, right - cell * columns, middle - cell * rows / 2
    yield Rect(x, y, side, side, "patch first-fill")
    yield Rect(x + cell * window.stride, y, side, side, "patch second-fill")
    if cell >= 3:
        yield from _grid_lines(x, y, cell * columns, side, cell)
    yield Rect(x, y, side, side, "patch first-line")
    yield Rect(x + cell * window.stride, y, side, side, "patch second-line")


def token_icon(x: float, y: float, learned: int, width: float, *, more: bool = False) -> Iterator[Shape]:
    """Draw a row of tokens, the learned ones first in another colour, and dots if `more` tokens follow."""
    shown = int((width - 12 * more) // STEP)
    for index in range(shown):
        yield Rect(x + index * STEP, y, TOKEN, TOKEN, "learned" if index < learned else "token", 2)
    if more:
        yield Text(x + shown * STEP, y + TOKEN - 1, "…", 11, "muted")


def profile_icon(x: float, middle: float, values: Sequence[float], size: tuple[float, float]) -> Iterator[Shape]:
    """Draw a bar for each block, of the height of its value."""
    step, scale, bottom = min(size[0] / len(values), 8), size[1] / max(values), fmt(middle + size[1] / 2)
    bars = (
        f"M{fmt(x + step * index)} {bottom}v{fmt(-value * scale)}h{fmt(step * 0.75)}v{fmt(value * scale)}Z"
        for index, value in enumerate(values)
    )
    yield Path("".join(bars), "profile")
