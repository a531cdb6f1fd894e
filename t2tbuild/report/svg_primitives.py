"""Rectangles, paths and texts of a drawing, before they are written as SVG.

Lengths are in pixels of the drawing; y grows downwards. Widths of texts are upper bounds, estimated for DejaVu Sans,
which is wider than the fonts that browsers prefer.
"""

from typing import Literal, NamedTuple

_NARROW, _WIDE = frozenset(" fijlrtI.,:;'|!()/-[]"), frozenset("mwMW%@\N{MULTIPLICATION SIGN}→+=~…⊕")
MIN_SCALE = 0.8
"""A text is shrunk down to this scale before it is truncated."""

Anchor = Literal["start", "middle", "end"]


class Rect(NamedTuple):
    """A rectangle; `css_class` holds its CSS classes, separated by spaces."""

    x: float
    y: float
    width: float
    height: float
    css_class: str
    radius: float = 0
    tag: str = "rect"


class Path(NamedTuple):
    """A line or an area in SVG path syntax."""

    d: str
    css_class: str
    tag: str = "path"


class Text(NamedTuple):
    """A line of text; `y` is its baseline, `x` its start, middle or end, depending on `anchor`."""

    x: float
    y: float
    text: str
    size: float
    css_class: str = "ink"
    anchor: Anchor = "start"
    tag: str = "text"

    @property
    def bold(self) -> bool:
        return "bold" in self.css_class.split()

    @property
    def left(self) -> float:
        """The leftmost position that the text may reach."""
        width = text_width(self.text, self.size, bold=self.bold)
        return self.x - {"start": 0, "middle": width / 2, "end": width}[self.anchor]

    @property
    def right(self) -> float:
        """The rightmost position that the text may reach."""
        return self.left + text_width(self.text, self.size, bold=self.bold)


Shape = Rect | Path | Text


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return an upper bound of the width of a text in pixels.

    >>> round(text_width("token performer 1", 10), 1)
    96.1
    """
    ems = sum(0.41 if sign in _NARROW else 0.98 if sign in _WIDE else 0.79 if sign.isupper() else 0.64 for sign in text)
    return ems * size * (1.12 if bold else 1)


def fit_text(
    text: str,
    max_width: float,
    position: tuple[float, float],
    size: float,
    css_class: str = "ink",
    anchor: Anchor = "start",
) -> Text:
    """Return a text that is at most `max_width` pixels wide: it is shrunk if needed, then truncated."""
    text = text.replace(" x ", " \N{MULTIPLICATION SIGN} ")
    bold = "bold" in css_class.split()
    width = text_width(text, size, bold=bold)
    if width > max_width:
        size = round(size * max(MIN_SCALE, max_width / width) - 0.05, 1)
    while len(text) > 1 and text_width(text, size, bold=bold) > max_width:
        text = text[:-2].rstrip() + "…"
    return Text(*position, text, size, css_class, anchor)


def format_coordinate(value: float) -> str:
    """Format a coordinate to a tenth of a pixel, without trailing zeros.

    >>> format_coordinate(12.0), format_coordinate(3.14159), format_coordinate(-0.01)
    ('12', '3.1', '0')
    """
    return f"{round(value, 1) + 0:g}"


def polyline(*points: tuple[float, float]) -> str:
    """Return SVG path syntax of straight lines from point to point."""
    return "M" + "L".join(f"{format_coordinate(x)} {format_coordinate(y)}" for x, y in points)
