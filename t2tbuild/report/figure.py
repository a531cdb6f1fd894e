"""What all pictures share: figures without a window, and colours that need no colour vision (Okabe and Ito)."""

import io

from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
DPI = 120


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches, outside pyplot, so that no display is needed and none leaks."""
    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def as_svg(figure: Figure) -> str:
    """The figure as an SVG element, to stand within a page."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    text = stream.getvalue()
    return text[text.index("<svg") :]
