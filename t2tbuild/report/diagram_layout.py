"""Where everything stands in the drawing of an architecture.

From the image downwards: on the left what there is, image, grids and tokens; beside it what is done, what that gives
out and what it costs.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from t2tbuild.cost.model import CONVENTION
from t2tbuild.report import svg_icons
from t2tbuild.report.architecture import Architecture, Box, Branch, Join, Kind
from t2tbuild.report.svg_primitives import Path, Rect, Shape, Text, fitted, line, number
from t2tbuild.spec.units import short_count

WIDTH, MARGIN, TOP = 900, 16, 92
SPINE, SPINE_ROOM = 68, 96  # the middle of the drawings of image, grids and tokens, and their width
LEFT, RIGHT = 132, 472  # of the boxes
GIVES, GIVES_END = 486, 604
PARAMS_END, MACS_END = 668, 736
BAR, BAR_END = 750, 832
SHARE_END = WIDTH - MARGIN
ROW, TALLEST_ROW, GAP = 38, 48, 8
IMAGE, LARGEST = 80, 70  # the longer side of the image's drawing, and of the largest grid's
WINDOW = 72  # the width of a drawing of two patches
INNER, INNER_ROW, BYPASS = 186, 26, 158  # the frame that shows what a block does


class Group(NamedTuple):
    """Shapes that belong together, and what a reader is told of them."""

    told: str
    shapes: tuple[Shape, ...]


class Picture(NamedTuple):
    """A drawing: its size in pixels, its name, the same in words, its groups from the back to the front."""

    width: float
    height: float
    title: str
    told: str
    groups: tuple[Group, ...]


class _Section(NamedTuple):
    """Boxes that share the drawing at their left, which is made for the height at which it begins."""

    boxes: tuple[Box, ...]
    height: float = 0
    glyph: Callable[[float], Iterable[Shape]] = lambda _top: ()


def place(drawn: Architecture) -> Picture:
    """The drawing of an architecture."""
    groups, y, above = [_head(drawn)], float(TOP), 0.0
    last_blocks = [box for box in drawn.boxes if box.kind is Kind.BLOCKS][-1]
    for section in (_image(drawn), *_sections(drawn)):
        count = len(section.boxes)
        height = max(section.height + 4, count * (ROW + GAP) - GAP)
        if section.height:
            top = y + (height - section.height) / 2
            arrow = _arrow(SPINE, above + 3, top - 3) if above else ()
            groups.append(Group("", (*arrow, *section.glyph(top))))
            above = top + section.height
        each = min(TALLEST_ROW, (height - GAP * (count - 1)) / count)
        start = y + (height - count * (each + GAP) + GAP) / 2
        for index, box in enumerate(section.boxes):
            groups.append(Group(sentence(box), tuple(_row(box, start + index * (each + GAP), each))))
        y += height + GAP
        if last_blocks in section.boxes:
            frame, height = _inside(drawn, y)
            groups += frame
            y += height + GAP
    groups.append(_foot(drawn, y))
    message = "; ".join(sentence(box) for box in drawn.boxes)
    message = f"From top to bottom: image of {drawn.image} pixels and {drawn.in_chans} channels; {message}."
    return Picture(WIDTH, math.ceil(y + 62), f"Architecture of {drawn.name}", message, tuple(groups))


def sentence(box: Box) -> str:
    """A box in words, for who cannot see it, and for who points at it."""
    message = [f"grid {box.grid}"] if box.grid else []
    if box.tokens and box.channels:
        message.append(f"{box.tokens:,} tokens of {box.channels:,} channels")
    if box.profile:
        message.append(f"block by block {', '.join(f'{value:g}' for value in box.profile)}")
    if box.kind is not Kind.IMAGE:
        message.append(f"{box.params:,} parameters, {box.macs:,} MACs")
    return f"{box.title} ({box.detail}): {', '.join(message)}".removesuffix(": ")


def _image(drawn: Architecture) -> _Section:
    width, height = svg_icons.grid_size(drawn.image, IMAGE)
    window = next(box.window for box in drawn.boxes if box.window)
    message = f"{drawn.image} pixels, {drawn.in_chans} channel{'s' * (drawn.in_chans > 1)}"
    box = Box(Kind.IMAGE, "image", message, None, None, None, 0, 0, 0)
    glyph = partial(svg_icons.image_glyph, SPINE - width / 2, image=drawn.image, longest=IMAGE, window=window)
    return _Section((box,), height, glyph)


def _sections(drawn: Architecture) -> Iterator[_Section]:
    largest = max(max(box.grid) for box in drawn.boxes if box.grid)
    for boxes in _beside_one_drawing(drawn.boxes):
        grid, channels, prefix = boxes[0].grid, boxes[-1].channels or 1, drawn.prefix_tokens
        if grid:
            longest = LARGEST * (max(grid) / largest) ** 0.5
            (width, height), depth = svg_icons.grid_size(grid, longest), svg_icons.block_depth(channels)
            left = SPINE - (width + depth) / 2
            yield _Section(
                boxes,
                height + depth,
                partial(svg_icons.grid_glyph, left, grid=grid, channels=channels, longest=longest),
            )
        elif boxes[0].kind is Kind.TOKENS:
            left = SPINE - SPINE_ROOM / 2
            yield _Section(
                boxes,
                svg_icons.TOKEN,
                partial(svg_icons.token_glyph, left, learned=prefix, width=SPINE_ROOM, more=True),
            )
        elif boxes[0].kind is Kind.HEAD:
            width = svg_icons.STEP * prefix
            left = SPINE - width / 2
            yield _Section(boxes, svg_icons.TOKEN, partial(svg_icons.token_glyph, left, learned=prefix, width=width))
        else:
            yield _Section(boxes)


def _beside_one_drawing(boxes: tuple[Box, ...]) -> Iterator[tuple[Box, ...]]:
    """What is done on the same grid stands beside one drawing of it, and so do the heads beside what they read."""
    start = 0
    for end in range(1, len(boxes) + 1):
        if end < len(boxes):
            first, box = boxes[start], boxes[end]
            same_grid = first.grid is not None and box.grid is not None and box.window is None
            if same_grid or first.kind is box.kind is Kind.HEAD:
                continue
        yield boxes[start:end]
        start = end


def _row(box: Box, y: float, height: float, left: float = LEFT) -> Iterator[Shape]:
    middle = y + height / 2
    yield Rect(left, y, RIGHT - left, height, f"box {box.kind}", 6)
    room = RIGHT - left - 24
    if box.window:
        yield from svg_icons.window_glyph(RIGHT - 10, middle, box.window, (WINDOW, ROW - 10))
        room -= WINDOW + 8
    yield fitted(box.title, room, (left + 12, middle - 4), 13, "ink bold")
    yield fitted(box.detail, room, (left + 12, middle + 12), 11, "muted")
    if box.tokens and box.channels:
        shape = f"{box.tokens:,} x {box.channels:,}"
        yield fitted(shape, GIVES_END - GIVES, (GIVES, middle - 2 if box.grid else middle + 4), 12)
    if box.grid:
        yield fitted(f"grid {box.grid}", GIVES_END - GIVES, (GIVES, middle + 12), 10.5, "muted")
    if box.kind is not Kind.IMAGE:
        yield from _figures(box, middle)


def _figures(box: Box, middle: float) -> Iterator[Shape]:
    """Parameters, MACs, and the MACs' share as a bar."""
    yield fitted(_count(box.params), PARAMS_END - GIVES_END - 6, (PARAMS_END, middle + 4), 12, "ink", "end")
    yield fitted(_count(box.macs), MACS_END - PARAMS_END - 6, (MACS_END, middle + 4), 12, "ink", "end")
    yield Rect(BAR, middle - 5, BAR_END - BAR, 10, "track", 2)
    if box.macs:
        yield Rect(BAR, middle - 5, max(0.5, (BAR_END - BAR) * box.share), 10, f"bar {box.kind}", 1)
    yield fitted(f"{box.share:.1%}", SHARE_END - BAR_END - 4, (SHARE_END, middle + 4), 11, "muted", "end")


def _count(value: int) -> str:
    return short_count(value) if value else "-"


def _inside(drawn: Architecture, y: float) -> tuple[list[Group], float]:
    """The frame that shows what a block does, and its height."""
    first = y + 46
    middle = (INNER + RIGHT) / 2
    rows: list[Group] = []
    lines: list[Shape] = [Path(line((middle, first - 12), (middle, first)), "flow")]
    at = first
    for branch in drawn.inside:
        tap = (first if branch.join is Join.CONCATENATE else at) - 8
        for box in branch.boxes:
            rows.append(Group(sentence(box), tuple(_inner_row(box, at))))
            lines.append(Path(line((middle, at + INNER_ROW), (middle, at + INNER_ROW + 6)), "flow"))
            at += INNER_ROW + 6
        lines += _joined(branch, middle, tap, at + 6)
        at += 26
    height = at - 4 - y
    many = f"what each of the {drawn.blocks} blocks does" if drawn.blocks > 1 else "what the block does"
    message = many + ("; figures are of all together" if drawn.blocks > 1 else "")
    frame = Rect(LEFT, y, SHARE_END + 8 - LEFT, height, "panel", 8)
    heading = fitted(message, SHARE_END - LEFT - 24, (LEFT + 12, y + 19), 11, "muted")
    return [Group("", (frame, heading, *lines)), *rows], height


def _joined(branch: Branch, middle: float, tap: float, y: float) -> Iterator[Shape]:
    """The way past a branch, from where it leaves to where it comes together with the branch again."""
    concatenated = branch.join is Join.CONCATENATE
    aside = BYPASS - 12 if concatenated else BYPASS
    yield Path(line((middle, tap), (aside, tap), (aside, y), (middle - 7, y)), "flow")
    radius, cross = 7, 3.5
    yield Path(f"M{number(middle - radius)} {number(y)}a7 7 0 1 1 14 0a7 7 0 1 1 -14 0Z", "join")
    if concatenated:
        yield from (Path(line((middle + x, y - cross), (middle + x, y + cross)), "flow") for x in (-1.5, 1.5))
    else:
        yield Path(
            line((middle - cross, y), (middle + cross, y)) + line((middle, y - cross), (middle, y + cross)), "flow"
        )
    yield Path(line((middle, y + radius), (middle, y + radius + 13)), "flow")
    yield fitted("concatenate" if concatenated else "add", 90, (middle + 14, y + 4), 10.5, "muted")


def _inner_row(box: Box, y: float) -> Iterator[Shape]:
    middle, end = y + INNER_ROW / 2, INNER + 104
    yield Rect(INNER, y, RIGHT - INNER, INNER_ROW, f"box {box.kind}", 5)
    yield fitted(box.title, end - INNER - 14, (INNER + 10, middle + 4), 12, "ink bold")
    yield fitted(box.detail, RIGHT - 8 - end, (end, middle + 4), 11, "muted")
    if box.profile:
        yield from svg_icons.profile_glyph(GIVES, middle, box.profile, (GIVES_END - GIVES - 8, INNER_ROW - 6))
    yield from _figures(box, middle)


def _arrow(x: float, start: float, end: float) -> Iterator[Shape]:
    if end - start > 5:
        yield Path(line((x, start), (x, end - 4)), "flow")
        yield Path(line((x - 3.5, end - 5), (x + 3.5, end - 5), (x, end)) + "Z", "tip")


def _head(drawn: Architecture) -> Group:
    message = f"image {drawn.image}, {drawn.params:,} parameters, {drawn.macs:,} MACs"
    room, heading = SHARE_END - MARGIN, partial(fitted, size=10.5, look="muted")
    return Group(
        "",
        (
            fitted(drawn.name, room, (MARGIN, 36), 20, "ink bold"),
            fitted(message, room, (MARGIN, 56), 12.5, "muted"),
            heading("tokens x channels", GIVES_END - GIVES, (GIVES, TOP - 8)),
            heading("params", PARAMS_END - GIVES_END, (PARAMS_END, TOP - 8), anchor="end"),
            heading("MACs", MACS_END - PARAMS_END, (MACS_END, TOP - 8), anchor="end"),
            heading("share of MACs", SHARE_END - BAR, (BAR, TOP - 8)),
        ),
    )


def _foot(drawn: Architecture, y: float) -> Group:
    return Group(
        "",
        (
            Path(line((LEFT, y + 2), (SHARE_END, y + 2)), "rule"),
            Text(LEFT + 12, y + 22, "total", 12, "ink bold"),
            Text(PARAMS_END, y + 22, short_count(drawn.params), 12, "ink bold", "end"),
            Text(MACS_END, y + 22, short_count(drawn.macs), 12, "ink bold", "end"),
            Text(SHARE_END, y + 22, "100%", 11, "muted", "end"),
            fitted(f"Of one image. {CONVENTION}.", SHARE_END - MARGIN, (MARGIN, y + 46), 10, "muted"),
        ),
    )
