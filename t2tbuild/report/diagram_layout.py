"""Layout of the diagram of an architecture.

The steps run from top to bottom, from the image to the logits. Icons of the image, grids and tokens are on the left; to
their right are the steps, their output shapes and their costs.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from t2tbuild.cost.model import CONVENTION
from t2tbuild.report import svg_icons
from t2tbuild.report.architecture import Architecture, Box, Branch, Join
from t2tbuild.report.svg_primitives import Path, Rect, Shape, Text, fit_text, format_coordinate, polyline
from t2tbuild.spec.units import plural, short_count
from t2tbuild.symbolic.row import BoxKind

WIDTH, MARGIN, TOP = 900, 16, 92
ICON_CENTER, ICON_WIDTH = 68, 96
LEFT, RIGHT = 132, 472  # sides of the boxes
OUTPUT, OUTPUT_END = 486, 604  # columns of output shapes, parameters, MACs and share
PARAMS_END, MACS_END = 668, 736
BAR, BAR_END = 750, 832
SHARE_END = WIDTH - MARGIN
ROW, TALLEST_ROW, GAP = 38, 48, 8
IMAGE, LARGEST = 80, 70  # the longer side of the image, and of the largest grid
WINDOW = 72  # width of the icon of two patches
INNER, INNER_ROW, BYPASS = 186, 26, 158  # the frame with the modules of a block


class Group(NamedTuple):
    """Shapes that belong together, with a description for screen readers and tooltips."""

    description: str
    shapes: tuple[Shape, ...]


class Drawing(NamedTuple):
    """A drawing: its size in pixels, title, description, and groups from back to front."""

    width: float
    height: float
    title: str
    description: str
    groups: tuple[Group, ...]


class _Section(NamedTuple):
    """Boxes that share an icon, which is drawn at a given y."""

    boxes: tuple[Box, ...]
    height: float = 0
    icon: Callable[[float], Iterable[Shape]] = lambda _top: ()


def layout_drawing(architecture: Architecture) -> Drawing:
    """Lay out the drawing of an architecture."""
    groups, y, above = [_head(architecture)], float(TOP), 0.0
    last_blocks = [box for box in architecture.boxes if box.kind is BoxKind.BLOCKS][-1]
    for section in (_image_section(architecture), *_sections(architecture)):
        count = len(section.boxes)
        height = max(section.height + 4, count * (ROW + GAP) - GAP)
        if section.height:
            top = y + (height - section.height) / 2
            arrow = _arrow(ICON_CENTER, above + 3, top - 3) if above else ()
            groups.append(Group("", (*arrow, *section.icon(top))))
            above = top + section.height
        each = min(TALLEST_ROW, (height - GAP * (count - 1)) / count)
        start = y + (height - count * (each + GAP) + GAP) / 2
        for index, box in enumerate(section.boxes):
            groups.append(Group(describe_box(box), tuple(_row(box, start + index * (each + GAP), each))))
        y += height + GAP
        if last_blocks in section.boxes:
            frame, height = _block_frame(architecture, y)
            groups += frame
            y += height + GAP
    groups.append(_foot(architecture, y))
    image = f"image of {architecture.image} pixels and {architecture.in_chans} channels"
    description = f"From top to bottom: {'; '.join([image, *map(describe_box, architecture.boxes)])}."
    return Drawing(WIDTH, math.ceil(y + 62), f"Architecture of {architecture.name}", description, tuple(groups))


def describe_box(box: Box) -> str:
    """Describe a box in words, for screen readers and tooltips."""
    parts = [f"grid {box.grid}"] if box.grid else []
    if box.tokens and box.channels:
        parts.append(f"{box.tokens:,} tokens of {box.channels:,} channels")
    if box.profile:
        parts.append(f"block by block {', '.join(f'{value:g}' for value in box.profile)}")
    if box.kind is not BoxKind.IMAGE:
        parts.append(f"{box.params:,} parameters, {box.macs:,} MACs")
    return f"{box.title} ({box.detail}): {', '.join(parts)}".removesuffix(": ")


def _image_section(architecture: Architecture) -> _Section:
    width, height = svg_icons.grid_size(architecture.image, IMAGE)
    window = next(box.window for box in architecture.boxes if box.window)
    detail = f"{architecture.image} pixels, {plural(architecture.in_chans, 'channel')}"
    box = Box(BoxKind.IMAGE, "image", detail, None, None, None, 0, 0, 0)
    icon = partial(
        svg_icons.image_icon, ICON_CENTER - width / 2, image=architecture.image, longest=IMAGE, window=window
    )
    return _Section((box,), height, icon)


def _sections(architecture: Architecture) -> Iterator[_Section]:
    largest = max(max(box.grid) for box in architecture.boxes if box.grid)
    for boxes in _group_by_icon(architecture.boxes):
        grid, channels, prefix = boxes[0].grid, boxes[-1].channels or 1, architecture.prefix_tokens
        if grid:
            longest = LARGEST * (max(grid) / largest) ** 0.5
            (width, height), depth = svg_icons.grid_size(grid, longest), svg_icons.block_depth(channels)
            left = ICON_CENTER - (width + depth) / 2
            yield _Section(
                boxes,
                height + depth,
                partial(svg_icons.grid_icon, left, grid=grid, channels=channels, longest=longest),
            )
        elif boxes[0].kind is BoxKind.TOKENS:
            left = ICON_CENTER - ICON_WIDTH / 2
            yield _Section(
                boxes,
                svg_icons.TOKEN,
                partial(svg_icons.token_icon, left, learned=prefix, width=ICON_WIDTH, more=True),
            )
        elif boxes[0].kind is BoxKind.HEAD:
            width = svg_icons.STEP * prefix
            left = ICON_CENTER - width / 2
            yield _Section(boxes, svg_icons.TOKEN, partial(svg_icons.token_icon, left, learned=prefix, width=width))
        else:
            yield _Section(boxes)


def _group_by_icon(boxes: tuple[Box, ...]) -> Iterator[tuple[Box, ...]]:
    """Group consecutive boxes that share an icon: steps on the same grid, and heads."""
    start = 0
    for end in range(1, len(boxes) + 1):
        if end < len(boxes):
            first, box = boxes[start], boxes[end]
            same_grid = first.grid is not None and box.grid is not None and box.window is None
            if same_grid or first.kind is box.kind is BoxKind.HEAD:
                continue
        yield boxes[start:end]
        start = end


def _row(box: Box, y: float, height: float, left: float = LEFT) -> Iterator[Shape]:
    middle = y + height / 2
    yield Rect(left, y, RIGHT - left, height, f"box {box.kind}", 6)
    max_width = RIGHT - left - 24
    if box.window:
        yield from svg_icons.window_icon(RIGHT - 10, middle, box.window, (WINDOW, ROW - 10))
        max_width -= WINDOW + 8
    yield fit_text(box.title, max_width, (left + 12, middle - 4), 13, "ink bold")
    yield fit_text(box.detail, max_width, (left + 12, middle + 12), 11, "muted")
    if box.tokens and box.channels:
        shape = f"{box.tokens:,} x {box.channels:,}"
        yield fit_text(shape, OUTPUT_END - OUTPUT, (OUTPUT, middle - 2 if box.grid else middle + 4), 12)
    if box.grid:
        yield fit_text(f"grid {box.grid}", OUTPUT_END - OUTPUT, (OUTPUT, middle + 12), 10.5, "muted")
    if box.kind is not BoxKind.IMAGE:
        yield from _cost_cells(box, middle)


def _cost_cells(box: Box, middle: float) -> Iterator[Shape]:
    """Yield parameters, MACs, and the share of MACs as a bar."""
    yield fit_text(_count(box.params), PARAMS_END - OUTPUT_END - 6, (PARAMS_END, middle + 4), 12, "ink", "end")
    yield fit_text(_count(box.macs), MACS_END - PARAMS_END - 6, (MACS_END, middle + 4), 12, "ink", "end")
    yield Rect(BAR, middle - 5, BAR_END - BAR, 10, "track", 2)
    if box.macs:
        yield Rect(BAR, middle - 5, max(0.5, (BAR_END - BAR) * box.share), 10, f"bar {box.kind}", 1)
    yield fit_text(f"{box.share:.1%}", SHARE_END - BAR_END - 4, (SHARE_END, middle + 4), 11, "muted", "end")


def _count(value: int) -> str:
    return short_count(value) if value else "-"


def _block_frame(architecture: Architecture, y: float) -> tuple[list[Group], float]:
    """Return the frame with the modules of a block, and its height."""
    first = y + 46
    middle = (INNER + RIGHT) / 2
    rows: list[Group] = []
    lines: list[Shape] = [Path(polyline((middle, first - 12), (middle, first)), "flow")]
    at = first
    for branch in architecture.inside:
        tap = (first if branch.join is Join.CONCATENATE else at) - 8
        for box in branch.boxes:
            rows.append(Group(describe_box(box), tuple(_inner_row(box, at))))
            lines.append(Path(polyline((middle, at + INNER_ROW), (middle, at + INNER_ROW + 6)), "flow"))
            at += INNER_ROW + 6
        lines += _bypass(branch, middle, tap, at + 6)
        at += 26
    height = at - 4 - y
    blocks = architecture.blocks
    title = f"inside each of the {blocks} blocks; costs of all blocks" if blocks > 1 else "inside the block"
    frame = Rect(LEFT, y, SHARE_END + 8 - LEFT, height, "panel", 8)
    heading = fit_text(title, SHARE_END - LEFT - 24, (LEFT + 12, y + 19), 11, "muted")
    return [Group("", (frame, heading, *lines)), *rows], height


def _bypass(branch: Branch, middle: float, tap: float, y: float) -> Iterator[Shape]:
    """Yield the skip connection of a branch, and the node where they join."""
    concatenated = branch.join is Join.CONCATENATE
    aside = BYPASS - 12 if concatenated else BYPASS
    yield Path(polyline((middle, tap), (aside, tap), (aside, y), (middle - 7, y)), "flow")
    radius, cross = 7, 3.5
    yield Path(f"M{format_coordinate(middle - radius)} {format_coordinate(y)}a7 7 0 1 1 14 0a7 7 0 1 1 -14 0Z", "join")
    if concatenated:
        yield from (Path(polyline((middle + x, y - cross), (middle + x, y + cross)), "flow") for x in (-1.5, 1.5))
    else:
        yield Path(
            polyline((middle - cross, y), (middle + cross, y)) + polyline((middle, y - cross), (middle, y + cross)),
            "flow",
        )
    yield Path(polyline((middle, y + radius), (middle, y + radius + 13)), "flow")
    yield fit_text("concatenate" if concatenated else "add", 90, (middle + 14, y + 4), 10.5, "muted")


def _inner_row(box: Box, y: float) -> Iterator[Shape]:
    middle, end = y + INNER_ROW / 2, INNER + 104
    yield Rect(INNER, y, RIGHT - INNER, INNER_ROW, f"box {box.kind}", 5)
    yield fit_text(box.title, end - INNER - 14, (INNER + 10, middle + 4), 12, "ink bold")
    yield fit_text(box.detail, RIGHT - 8 - end, (end, middle + 4), 11, "muted")
    if box.profile:
        yield from svg_icons.profile_icon(OUTPUT, middle, box.profile, (OUTPUT_END - OUTPUT - 8, INNER_ROW - 6))
    yield from _cost_cells(box, middle)


def _arrow(x: float, start: float, end: float) -> Iterator[Shape]:
    if end - start > 5:
        yield Path(polyline((x, start), (x, end - 4)), "flow")
        yield Path(polyline((x - 3.5, end - 5), (x + 3.5, end - 5), (x, end)) + "Z", "tip")


def _head(architecture: Architecture) -> Group:
    subtitle = f"image {architecture.image}, {architecture.params:,} parameters, {architecture.macs:,} MACs"
    max_width, heading = SHARE_END - MARGIN, partial(fit_text, size=10.5, css_class="muted")
    return Group(
        "",
        (
            fit_text(architecture.name, max_width, (MARGIN, 36), 20, "ink bold"),
            fit_text(subtitle, max_width, (MARGIN, 56), 12.5, "muted"),
            heading("tokens x channels", OUTPUT_END - OUTPUT, (OUTPUT, TOP - 8)),
            heading("params", PARAMS_END - OUTPUT_END, (PARAMS_END, TOP - 8), anchor="end"),
            heading("MACs", MACS_END - PARAMS_END, (MACS_END, TOP - 8), anchor="end"),
            heading("share of MACs", SHARE_END - BAR, (BAR, TOP - 8)),
        ),
    )


def _foot(architecture: Architecture, y: float) -> Group:
    return Group(
        "",
        (
            Path(polyline((LEFT, y + 2), (SHARE_END, y + 2)), "rule"),
            Text(LEFT + 12, y + 22, "total", 12, "ink bold"),
            Text(PARAMS_END, y + 22, short_count(architecture.params), 12, "ink bold", "end"),
            Text(MACS_END, y + 22, short_count(architecture.macs), 12, "ink bold", "end"),
            Text(SHARE_END, y + 22, "100%", 11, "muted", "end"),
            fit_text(f"Costs of one image. {CONVENTION}.", SHARE_END - MARGIN, (MARGIN, y + 46), 10, "muted"),
        ),
    )
