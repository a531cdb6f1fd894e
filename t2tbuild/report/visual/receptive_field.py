"""The receptive field of a token in pixels, by interval arithmetic through the windows of the soft splits."""

from collections.abc import Sequence
from typing import NamedTuple

from t2tbuild.layout import Grid

Window = tuple[int, int, int]
"""Patch size, stride and padding of a soft split, in tokens of its input grid."""


class Span(NamedTuple):
    """Pixels along a side, from `start` to `stop`, excluding `stop`."""

    start: int
    stop: int


class Box(NamedTuple):
    """A rectangle of pixels: its rows and its columns."""

    rows: Span
    columns: Span


def receptive_spans(side: int, windows: Sequence[Window]) -> list[Span]:
    """Return the receptive field of each token of the last window along a side of `side` pixels, in token order.

    Only soft splits count; token attentions, which mix all tokens of a grid, are ignored. Padding holds no pixels, so
    each window is clipped to its input grid (Equations 2 and 3 of the paper).

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
    """Return the receptive field of the token at a row and column of the last window's grid."""
    return Box(
        receptive_spans(image.height, windows)[row],
        receptive_spans(image.width, windows)[column],
    )


def token_grids(image: Grid, windows: Sequence[Window]) -> list[Grid]:
    """Return the grid of tokens after each window."""
    prefixes = [windows[: number + 1] for number in range(len(windows))]
    return [Grid(*(len(receptive_spans(side, prefix)) for side in image)) for prefix in prefixes]


def overlap(first: Span, second: Span) -> int:
    """Return the number of pixels that two spans share."""
    return max(0, min(first.stop, second.stop) - max(first.start, second.start))


def matching_token(row: int, column: int, grid: Grid, other: Grid) -> tuple[int, int]:
    """Return the token of another grid over the same image that contains the center of this token."""
    return (2 * row + 1) * other.height // (2 * grid.height), (2 * column + 1) * other.width // (2 * grid.width)
