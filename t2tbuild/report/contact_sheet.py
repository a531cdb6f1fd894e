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


class Captioned(NamedTuple):
    """Bytes [height, width, C] of an image, and the lines of its caption."""

    pixels: np.ndarray
    caption: Sequence[str]


def contact_sheet(images: Sequence[Captioned], title: str) -> Figure:
    """Return a figure of images in rows of six; gray ones have one channel."""
    columns = min(COLUMNS, max(1, len(images)))
    rows = -(-len(images) // columns)
    lines = max((len(one.caption) for one in images), default=0)
    figure = new_figure(max(4.5, 1.75 * columns), (1.75 + 0.12 * lines) * rows + 0.5)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, one in zip(figure.axes, images, strict=False):
        pixels = one.pixels
        axes.imshow(pixels[..., 0] if pixels.shape[-1] != 3 else pixels, cmap="gray", vmin=0, vmax=255)
        axes.set_title("\n".join(one.caption), fontsize=7, loc="left", parse_math=False)
    figure.suptitle(title, fontsize=9)
    return figure


def wrap_caption(text: str) -> Iterator[str]:
    """Yield a text as at most two lines of a caption."""
    yield from textwrap.wrap(shorten(text, 2 * CAPTION_WIDTH), CAPTION_WIDTH)[:2]
