"""What a drawing is made of: rectangles, lines and texts with their places, before they become SVG.

Lengths are in pixels of the drawing, y grows downwards. How wide a text is, is estimated from above: by the widths of
DejaVu Sans, which is wider than what browsers take where they have a choice.
"""

from typing import Literal, NamedTuple

_NARROW, _WIDE = frozenset(" fijlrtI.,:;'|!()/-[]"), frozenset("mwMW%@\N{MULTIPLICATION SIGN}→+=~…⊕")
LEAST = 0.8
"""By how much a text may be smaller than meant before it is cut."""

Anchor = Literal["start", "middle", "end"]


class Rect(NamedTuple):
    """A rectangle; `look` are its CSS classes."""

    x: float
    y: float
    width: float
    height: float
    look: str
    radius: float = 0
    tag: str = "rect"


class Path(NamedTuple):
    """A line or an area, in the language of SVG's paths."""

    d: str
    look: str
    tag: str = "path"


class Text(NamedTuple):
    """A line of text; `y` is its base line, `x` where it starts, ends or has its middle."""

    x: float
    y: float
    text: str
    size: float
    look: str = "ink"
    anchor: Anchor = "start"
    tag: str = "text"

    @property
    def bold(self) -> bool:
        return "bold" in self.look.split()

    @property
    def left(self) -> float:
        """Where the text begins at most."""
        width = text_width(self.text, self.size, bold=self.bold)
        return self.x - {"start": 0, "middle": width / 2, "end": width}[self.anchor]

    @property
    def right(self) -> float:
        """Where the text ends at most."""
        return self.left + text_width(self.text, self.size, bold=self.bold)


Shape = Rect | Path | Text


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a text is at most, in pixels.

    >>> round(text_width("token performer 1", 10), 1)
    96.1
    """
    ems = sum(0.41 if sign in _NARROW else 0.98 if sign in _WIDE else 0.79 if sign.isupper() else 0.64 for sign in text)
    return ems * size * (1.12 if bold else 1)


def fitted(
    text: str, room: float, place: tuple[float, float], size: float, look: str = "ink", anchor: Anchor = "start"
) -> Text:
    """The text within `room` pixels at a place: smaller where it must be, and cut where that is not enough."""
    text = text.replace(" x ", " \N{MULTIPLICATION SIGN} ")
    bold = "bold" in look.split()
    width = text_width(text, size, bold=bold)
    if width > room:
        size = round(size * max(LEAST, room / width) - 0.05, 1)
    while len(text) > 1 and text_width(text, size, bold=bold) > room:
        text = text[:-2].rstrip() + "…"
    return Text(*place, text, size, look, anchor)


def number(value: float) -> str:
    """A coordinate as short as it can be written at a tenth of a pixel.

    >>> number(12.0), number(3.14159), number(-0.01)
    ('12', '3.1', '0')
    """
    return f"{round(value, 1) + 0:g}"


def line(*points: tuple[float, float]) -> str:
    """A path from point to point."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
