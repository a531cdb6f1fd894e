"""A contact sheet: small images in rows, each with a caption above it."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from t2tbuild.report.figure import new_figure
from t2tbuild.spec.label_names import shorten

COLUMNS = 6
CAPTION_WIDTH = 23  # characters of a line of a caption

# in inches
IMAGE_SIDE, GAP, MARGIN = 1.6, 0.15, 0.1
LINE_HEIGHT, TITLE_HEIGHT = 0.12, 0.5
LEAST_WIDTH = 4.5  # for the title


class Captioned(NamedTuple):
    """Bytes [height, width, C] of an image, and the lines of its caption."""

    pixels: np.ndarray
    caption: Sequence[str]


def contact_sheet(images: Sequence[Captioned], title: str) -> Figure:
    """Return a figure of images in rows of six; gray ones have one channel.

    The places are computed here, since a layout engine takes seconds for so many axes.
    """
    columns = min(COLUMNS, max(1, len(images)))
    rows = -(-len(images) // columns)
    above = LINE_HEIGHT * max((len(one.caption) for one in images), default=0) + 0.5 * LINE_HEIGHT
    cell_width, cell_height = IMAGE_SIDE + GAP, IMAGE_SIDE + above + GAP
    width = max(LEAST_WIDTH, columns * cell_width + 2 * MARGIN - GAP)
    height = rows * cell_height + 2 * MARGIN + TITLE_HEIGHT
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    for index, one in enumerate(images):
        row, column = divmod(index, columns)
        left, top = MARGIN + column * cell_width, MARGIN + TITLE_HEIGHT + row * cell_height + above
        place = (left / width, 1 - (top + IMAGE_SIDE) / height, IMAGE_SIDE / width, IMAGE_SIDE / height)
        axes = figure.add_axes(place, anchor="NW")
        axes.set_axis_off()
        pixels = one.pixels
        axes.imshow(pixels[..., 0] if pixels.shape[-1] != 3 else pixels, cmap="gray", vmin=0, vmax=255)
        text = "\n".join(one.caption)
        axes.text(0, 1.02, text, transform=axes.transAxes, va="bottom", fontsize=7, parse_math=False)
    figure.suptitle(title, y=1 - MARGIN / height, fontsize=9)
    return figure


def wrap_caption(text: str) -> Iterator[str]:
    """Yield a text as at most two lines of a caption."""
    yield from textwrap.wrap(shorten(text, 2 * CAPTION_WIDTH), CAPTION_WIDTH)[:2]
