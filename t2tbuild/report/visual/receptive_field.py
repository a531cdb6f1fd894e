"""Which pixels a token is made of, by interval arithmetic through the windows below it."""

from collections.abc import Sequence
from typing import NamedTuple

from t2tbuild.layout import Grid

Window = tuple[int, int, int]
"""Patch size, stride and padding of a soft split, in tokens of the grid below."""


class Span(NamedTuple):
    """Pixels along a side, from `start` up to but without `stop`."""

    start: int
    stop: int


class Box(NamedTuple):
    """Pixels of a rectangle: rows and columns."""

    rows: Span
    columns: Span


def receptive_spans(side: int, windows: Sequence[Window]) -> list[Span]:
    """The pixels along a side of `side` pixels that each token of the last window is made of, in the tokens' order.

    Of the soft splits alone: a token attention on the way mixes all tokens of its grid. Padding holds no pixel, so
    every window's reach is clipped to the grid below (Equations 2 and 3 of the paper).

        >>> receptive_spans(8, [(3, 2, 1)])
        [Span(start=0, stop=2), Span(start=1, stop=4), Span(start=3, stop=6), Span(start=5, stop=8)]
    """
    spans = [Span(pixel, pixel + 1) for pixel in range(side)]
    for patch_size, stride, padding in windows:
        firsts = range(-padding, len(spans) + padding - patch_size + 1, stride)
        reached = [(max(0, first), min(len(spans), first + patch_size)) for first in firsts]
        spans = [Span(spans[first].start, spans[end - 1].stop) for first, end in reached]
    return spans


def receptive_box(image: Grid, windows: Sequence[Window], row: int, column: int) -> Box:
    """The pixels of an image that the token in a row and column of the last window's grid is made of."""
    return Box(
        receptive_spans(image.height, windows)[row],
        receptive_spans(image.width, windows)[column],
    )


def grids_of(image: Grid, windows: Sequence[Window]) -> list[Grid]:
    """The grid of tokens after each window."""
    below = [windows[: number + 1] for number in range(len(windows))]
    return [Grid(*(len(receptive_spans(side, inside)) for side in image)) for inside in below]


def overlap(first: Span, second: Span) -> int:
    """Pixels that two spans share."""
    return max(0, min(first.stop, second.stop) - max(first.start, second.start))


def same_place(row: int, column: int, grid: Grid, other: Grid) -> tuple[int, int]:
    """The token of another grid over the same image that lies where the middle of this token does."""
    return (2 * row + 1) * other.height // (2 * grid.height), (2 * column + 1) * other.width // (2 * grid.width)
