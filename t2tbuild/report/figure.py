"""What all pictures share: figures without a window, and colours that need no colour vision (Okabe and Ito)."""

from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
DPI = 120


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches, outside pyplot, so that no display is needed and none leaks."""
    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)
