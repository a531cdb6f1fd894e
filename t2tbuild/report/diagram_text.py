"""The architecture of a model as text for a terminal: from the image downwards, a line for each step."""

import textwrap
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from t2tbuild.report.architecture import COLOURS, Architecture, Box, Branch, Join
from t2tbuild.spec.tokenizer import Window
from t2tbuild.spec.units import plural, short_count
from t2tbuild.symbolic.row import BoxKind

WIDEST, NARROWEST = 96, 60
"""The widest drawing in columns, and the narrowest; in a narrower terminal lines are truncated."""

SHAPE, COUNT, SHARE, WIDEST_BAR = 12, 8, 7, 12
"""Widths in columns of tokens and channels, of a count, of a share, and the largest width of a bar."""

INK = COLOURS | {BoxKind.IMAGE: "default"}
"""The colours in a terminal; the image has the default colour."""

PLAIN = str.maketrans({"→": "->", "●": "*", "│": "|", "╭": ".", "╰": "`", "─": "-", "█": "#", "■": "=", "▣": "#"})
"""Replacements in terminals without Unicode."""


class TextDiagram:
    """A renderable of rich that draws an architecture in the width of the console."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        for line in _Lines(min(options.max_width, WIDEST)).render(self.architecture):
            line.rstrip()
            line.truncate(options.max_width, overflow="ellipsis" if not options.ascii_only else "crop")
            if options.ascii_only:
                line.plain = line.plain.translate(PLAIN).replace("…", ".")
            yield line


class _Lines:
    """The lines of a drawing that is `width` columns wide."""

    def __init__(self, width: int) -> None:
        width = max(width, NARROWEST)
        self.width, self.bar = width, min(WIDEST_BAR, (width - NARROWEST) * 2 // 5)
        self.title_width = width - SHAPE - 2 * COUNT - 1 - self.bar - SHARE

    def render(self, architecture: Architecture) -> Iterator[Text]:
        """Yield the lines of an architecture."""
        yield Text(f"{architecture.name}, image {architecture.image}", "bold")
        counts = [_cell(Text(name, "dim"), COUNT, "right") for name in ("params", "MACs")]
        share = _cell(Text("share", "dim"), 1 + self.bar + SHARE, "right")
        yield _concat(_cell(Text("tokens x channels", "dim"), self.title_width + SHAPE, "right"), *counts, share)
        image = f"{architecture.image} pixels, {plural(architecture.in_chans, 'channel')}"
        yield Text("● image", "bold")
        yield from self._wrap("│ ", image)
        last_blocks = [box for box in architecture.boxes if box.kind is BoxKind.BLOCKS][-1]
        for box in architecture.boxes:
            yield from self._step(box, "  " if box is architecture.boxes[-1] else "│ ")
            if box is last_blocks:
                blocks = architecture.blocks
                title = f"each of the {blocks} blocks; costs of all blocks:" if blocks > 1 else "the block:"
                yield Text(f"│ {title}", "italic")
                for branch in architecture.inside:
                    yield from self._branch(branch)
        total = Box(BoxKind.NORM, "", "", None, None, None, architecture.params, architecture.macs, 1)
        yield self._row(Text("total", "bold"), total)

    def _step(self, box: Box, prefix: str) -> Iterator[Text]:
        title = Text(f"● {box.title}", f"bold {INK[box.kind]}")
        if box.window and box.window.overlap:
            strip = _overlap_strip(box.window)
            if len(title) + 2 + len(strip) < self.title_width:
                title = _concat(title, Text("  "), strip)
        yield self._row(title, box)
        yield from self._wrap(prefix, box.detail + (f" → grid {box.grid}" if box.grid and box.window else ""))

    def _branch(self, branch: Branch) -> Iterator[Text]:
        """Yield the modules of a branch, with the skip connection beside them."""
        is_residual = branch.join is Join.ADD
        for index, box in enumerate(branch.boxes):
            prefix = ("│ ╭─ " if index == 0 else "│ │  ") if is_residual else "│    "
            yield self._row(_concat(Text(prefix, "dim"), Text(box.title, INK[box.kind])), box)
            detail = box.detail if box.kind is not BoxKind.NORM else ""
            detail += f"; block by block: {' '.join(f'{value:g}' for value in box.profile)}" if box.profile else ""
            yield from self._wrap("│ │    " if is_residual else "│      ", detail)
        yield Text("│ ╰─ + " if is_residual else "│    + ", "dim").append(str(branch.join))

    def _wrap(self, prefix: str, text: str) -> Iterator[Text]:
        yield from (Text(f"{prefix}{part}", "dim") for part in textwrap.wrap(text, self.width - len(prefix)))

    def _row(self, title: Text, box: Box) -> Text:
        shape = f"{box.tokens:,} x {box.channels:,}" if box.tokens and box.channels else ""
        return _concat(
            _cell(title, self.title_width - 1),
            Text(" "),
            _cell(Text(shape), SHAPE),
            _cell(Text(_count(box.params)), COUNT, "right"),
            _cell(Text(_count(box.macs)), COUNT, "right"),
            Text(" "),
            _cell(Text("█" * round(self.bar * box.share), INK[box.kind]), self.bar),
            _cell(Text(f"{box.share:.1%}", "dim"), SHARE, "right"),
        )


def _overlap_strip(window: Window) -> Text:
    """Draw two neighbouring patches, a character for each cell, with their overlap marked."""
    strip = Text("■" * window.stride, INK[BoxKind.SPLIT])
    strip.append("▣" * window.overlap, "default")
    return strip.append("■" * window.stride, INK[BoxKind.ATTENTION])


def _cell(text: Text, width: int, align: str = "left") -> Text:
    text.truncate(width, overflow="ellipsis")
    text.pad_left(width - len(text)) if align == "right" else text.pad_right(width - len(text))
    return text


def _concat(*texts: Text) -> Text:
    return Text().join(texts)


def _count(value: int) -> str:
    return short_count(value) if value else "-"
