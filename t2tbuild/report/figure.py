"""Helpers of all matplotlib figures, and a palette for colour-blind readers (Okabe and Ito)."""

import io
import warnings
from pathlib import Path

from matplotlib.figure import Figure

from t2tbuild.files import atomic_write

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
DPI = 120


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, without pyplot: it needs no display and is garbage-collected."""
    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's suffix, whole or not at all. Raises OSError."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* missing from font", UserWarning)  # drawn as a box
        figure.savefig(stream, format=path.suffix.lower().removeprefix("."))
    atomic_write(path, stream.getvalue())


def as_svg(figure: Figure) -> str:
    """Return a figure as an SVG element to embed in a page."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    text = stream.getvalue()
    return text[text.index("<svg") :]
