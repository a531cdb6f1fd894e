"""Pictures of attention, laid over the image."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from t2tbuild.report.figure import new_figure
from t2tbuild.report.visual.attention import AttentionMaps, BlockAttention, StageAttention
from t2tbuild.report.visual.canvas import HEAT, Array, entitle, show_heat, show_image

PANELS = 4  # in a row
PANEL = 2.4  # inches
EVEN = (0.8, 1.25)  # what a rollout's colours span at least, so that an even one looks even
WHOLE = 0.995  # sum of a row below which it is told: where the Performer's epsilon takes a share
CLASS_TOKEN, EVERY_TOKEN = "class token", "mean of all tokens"
RANDOM_FEATURES = "Performer: computed as phi(q) phi(k)^T, normalised, from {features} random features"


def draw_block(maps: AttentionMaps, block: BlockAttention, shown: Array, title: str) -> Figure:
    """The image, the reading token's attention head by head, and attention rolled out over all blocks."""
    heads = list(block.reader)
    panels = 2 + len(heads)
    figure, axes_of = _panels(shown, panels)
    show_image(axes_of[0], shown, "image")
    on_grid = [maps.on_grid(head_N) for head_N in heads]
    norm = _norm(on_grid)
    own = "itself" if maps.prefix == 1 and maps.has_class_token else "tokens of no place"
    for number, (axes, head_N, heat) in enumerate(zip(axes_of[1:], heads, on_grid, strict=False)):
        message = f"head {number}: {maps.on_prefix(head_N):.0%} on {own}" if maps.prefix else f"head {number}"
        show_heat(axes, shown, heat.numpy(), norm, message)
    rolled = maps.on_grid(maps.rolled)
    rolled = rolled / rolled.mean()
    low, high = rolled.min().item(), rolled.max().item()
    message = f"rollout of {len(maps.blocks)} blocks, own scale:\n{low:.2f} to {high:.2f} of its mean"
    show_heat(axes_of[1 + len(heads)], shown, rolled.numpy(), Normalize(min(low, EVEN[0]), max(high, EVEN[1])), message)
    _scale(figure, norm, axes_of)
    entitle(figure, title, f"attention of the {_reader(maps)}, {block.name}, and rolled out over all blocks")
    return figure


def draw_all_blocks(maps: AttentionMaps, shown: Array, title: str) -> Figure:
    """The reading token's attention of every block: a row a block, a column a head."""
    heads = max(len(block.reader) for block in maps.blocks)
    height, width = shown.shape[:2]
    side = min(1.5, 14 / heads)
    figure = new_figure(1.5 + side * heads, 0.8 + side * height / width * len(maps.blocks))
    axes_of = figure.subplots(len(maps.blocks), heads, squeeze=False)
    on_grid = [[maps.on_grid(head_N) for head_N in block.reader] for block in maps.blocks]
    norm = _norm([heat for row in on_grid for heat in row])
    for block, row, axes_row in zip(maps.blocks, on_grid, axes_of, strict=True):
        for axes in axes_row[len(row) :]:
            axes.set_axis_off()
        for axes, heat in zip(axes_row, row, strict=False):
            show_heat(axes, shown, heat.numpy(), norm, "")
        axes_row[0].set_ylabel(block.name, fontsize=7)
    for number, axes in enumerate(axes_of[0]):
        axes.set_title(f"head {number}", fontsize=7)
    _scale(figure, norm, list(axes_of.flatten()))
    entitle(figure, title, f"attention of the {_reader(maps)} in every block")
    return figure


def draw_stages(stages: Sequence[StageAttention], shown: Array, title: str) -> Figure:
    """What one token of each token attention attends to; the token itself is marked."""
    figure, axes_of = _panels(shown, 1 + len(stages))
    show_image(axes_of[0], shown, "image")
    for axes, stage in zip(axes_of[1:], stages, strict=False):
        norm = _norm([stage.weights])
        kind = "softmax" if stage.features is None else "Performer"
        sums_to = stage.weights.mean().item()
        less = f", row sums to {sums_to:.2f}" if sums_to < WHOLE else ""
        message = f"stage {stage.stage}, {kind}, {stage.grid} tokens{less}"
        image = show_heat(axes, shown, stage.weights.numpy(), norm, message)
        figure.colorbar(image, ax=axes, shrink=0.7)
        _mark(axes, stage, shown)
    features = [str(stage.features) for stage in stages if stage.features is not None]
    computed = "\n" + RANDOM_FEATURES.format(features=" and ".join(dict.fromkeys(features))) if features else ""
    entitle(figure, title, f"token attention of the marked token, times even attention{computed}")
    return figure


def _reader(maps: AttentionMaps) -> str:
    return CLASS_TOKEN if maps.has_class_token else EVERY_TOKEN


def _panels(shown: Array, panels: int) -> tuple[Figure, list[Axes]]:
    """A figure with axes for so many panels of the image's shape; what is left over is blank."""
    height, width = shown.shape[:2]
    columns = min(PANELS, panels)
    rows = math.ceil(panels / columns)
    figure = new_figure(0.8 + PANEL * columns, 0.9 + rows * (PANEL * height / width + 0.25))
    axes_of = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for axes in axes_of[panels:]:
        axes.set_axis_off()
    return figure, axes_of


def _norm(heats: Sequence[Tensor]) -> Normalize:
    """One scale for several maps: from 0 to the largest, and at least to twice what even attention gives."""
    return Normalize(0, max(2.0, *(heat.max().item() for heat in heats)))


def _scale(figure: Figure, norm: Normalize, axes_of: Sequence[Axes]) -> None:
    mappable = ScalarMappable(norm, HEAT)
    figure.colorbar(mappable, ax=list(axes_of), shrink=0.6, aspect=30, label="times even attention")


def _mark(axes: Axes, stage: StageAttention, shown: Array) -> None:
    height, width = shown.shape[:2]
    x, y = (stage.column + 0.5) * width / stage.grid.width, (stage.row + 0.5) * height / stage.grid.height
    axes.plot(
        x - 0.5, y - 0.5, "o", markersize=7, markerfacecolor="none", markeredgecolor="#56B4E9", markeredgewidth=1.6
    )
