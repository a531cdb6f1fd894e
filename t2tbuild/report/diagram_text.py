"""The architecture of a model as a terminal shows it: from the image downwards, a point for each step."""

import textwrap
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from t2tbuild.report.architecture import COLOURS, Architecture, Box, Branch, Join, Kind
from t2tbuild.spec.tokenizer import Window
from t2tbuild.spec.units import short_count

WIDEST, NARROWEST = 96, 60
"""Columns of a terminal beyond which nothing gets wider, and below which lines are cut."""

SHAPE, COUNT, SHARE, WIDEST_BAR = 12, 8, 7, 12
"""Columns of tokens and channels, of a count, of a share, and of a bar where there is room."""

INK = COLOURS | {Kind.IMAGE: "default"}
"""A terminal shows the image in its own colour, whatever that is."""

PLAIN = str.maketrans({"→": "->", "●": "*", "│": "|", "╭": ".", "╰": "`", "─": "-", "█": "#", "■": "=", "▣": "#"})
"""For terminals that know ASCII alone."""


class TextDiagram:
    """Prints an architecture in as many columns as there are."""

    def __init__(self, drawn: Architecture) -> None:
        self.drawn = drawn

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        for line in _Lines(min(options.max_width, WIDEST)).of(self.drawn):
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
        self.room = width - SHAPE - 2 * COUNT - 1 - self.bar - SHARE

    def of(self, drawn: Architecture) -> Iterator[Text]:
        yield Text(f"{drawn.name}, image {drawn.image}", "bold")
        counts = [_cell(Text(name, "dim"), COUNT, "right") for name in ("params", "MACs")]
        share = _cell(Text("share", "dim"), 1 + self.bar + SHARE, "right")
        yield _joined(_cell(Text("tokens x channels", "dim"), self.room + SHAPE, "right"), *counts, share)
        yield Text("● image", "bold")
        yield from self._told("│ ", f"{drawn.image} pixels, {drawn.in_chans} channel{'s' * (drawn.in_chans > 1)}")
        last_blocks = [box for box in drawn.boxes if box.kind is Kind.BLOCKS][-1]
        for box in drawn.boxes:
            yield from self._step(box, "  " if box is drawn.boxes[-1] else "│ ")
            if box is last_blocks:
                blocks = drawn.blocks
                message = f"each of the {blocks} blocks, figures of all together:" if blocks > 1 else "the block:"
                yield Text(f"│ {message}", "italic")
                for branch in drawn.inside:
                    yield from self._branch(branch)
        total = Box(Kind.NORM, "", "", None, None, None, drawn.params, drawn.macs, 1)
        yield self._row(Text("total", "bold"), total)

    def _step(self, box: Box, way: str) -> Iterator[Text]:
        title = Text(f"● {box.title}", f"bold {INK[box.kind]}")
        if box.window and box.window.overlap:
            strip = _strip(box.window)
            if len(title) + 2 + len(strip) < self.room:
                title = _joined(title, Text("  "), strip)
        yield self._row(title, box)
        yield from self._told(way, box.detail + (f" → grid {box.grid}" if box.grid and box.window else ""))

    def _branch(self, branch: Branch) -> Iterator[Text]:
        """The modules of a branch, beside them the way past it."""
        aside = branch.join is Join.ADD
        for index, box in enumerate(branch.boxes):
            way = ("│ ╭─ " if index == 0 else "│ │  ") if aside else "│    "
            yield self._row(_joined(Text(way, "dim"), Text(box.title, INK[box.kind])), box)
            message = box.detail if box.kind is not Kind.NORM else ""
            message += f"; block by block: {' '.join(f'{value:g}' for value in box.profile)}" if box.profile else ""
            yield from self._told("│ │    " if aside else "│      ", message)
        yield Text("│ ╰─ + " if aside else "│    + ", "dim").append(str(branch.join))

    def _told(self, way: str, text: str) -> Iterator[Text]:
        yield from (Text(f"{way}{part}", "dim") for part in textwrap.wrap(text, self.width - len(way)))

    def _row(self, title: Text, box: Box) -> Text:
        shape = f"{box.tokens:,} x {box.channels:,}" if box.tokens and box.channels else ""
        return _joined(
            _cell(title, self.room - 1),
            Text(" "),
            _cell(Text(shape), SHAPE),
            _cell(Text(_count(box.params)), COUNT, "right"),
            _cell(Text(_count(box.macs)), COUNT, "right"),
            Text(" "),
            _cell(Text("█" * round(self.bar * box.share), INK[box.kind]), self.bar),
            _cell(Text(f"{box.share:.1%}", "dim"), SHARE, "right"),
        )


def _strip(window: Window) -> Text:
    """Two neighbouring patches, a cell a sign; what they share is marked."""
    strip = Text("■" * window.stride, INK[Kind.SPLIT])
    strip.append("▣" * window.overlap, "default")
    return strip.append("■" * window.stride, INK[Kind.ATTENTION])


def _cell(text: Text, width: int, align: str = "left") -> Text:
    text.truncate(width, overflow="ellipsis")
    text.pad_left(width - len(text)) if align == "right" else text.pad_right(width - len(text))
    return text


def _joined(*texts: Text) -> Text:
    return Text().join(texts)


def _count(value: int) -> str:
    return short_count(value) if value else "-"
