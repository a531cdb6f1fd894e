"""Figures of attention maps over the image."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from t2tbuild.report.figure import new_figure
from t2tbuild.report.visual.attention import AttentionMaps, BlockAttention, StageAttention
from t2tbuild.report.visual.canvas import HEATMAP_COLOURS, Array, add_title, show_heatmap, show_image

PANELS = 4  # per row
PANEL = 2.4  # inches
MIN_ROLLOUT_RANGE = (0.8, 1.25)  # least range of a rollout's colours, so that a uniform rollout has a uniform colour
FULL_ROW_SUM = 0.995  # a lower sum of a row is printed: there the Performer's epsilon takes a share
CLASS_TOKEN, EVERY_TOKEN = "class token", "mean of all tokens"
RANDOM_FEATURES = "Performer: computed as phi(q) phi(k)^T, normalised, from {features} random features"


def draw_block(maps: AttentionMaps, block: BlockAttention, pixels: Array, title: str) -> Figure:
    """Draw the image, the class token's attention in each head of a block, and the rollout over all blocks."""
    heads = list(block.cls_attention)
    panels = 2 + len(heads)
    figure, axes_of = _panels(pixels, panels)
    show_image(axes_of[0], pixels, "image")
    on_grid = [maps.on_grid(head_N) for head_N in heads]
    norm = _norm(on_grid)
    prefix_name = "itself" if maps.prefix == 1 and maps.has_class_token else "prefix tokens"
    for number, (axes, head_N, heat) in enumerate(zip(axes_of[1:], heads, on_grid, strict=False)):
        share = f": {maps.prefix_share(head_N):.0%} on {prefix_name}" if maps.prefix else ""
        show_heatmap(axes, pixels, heat.numpy(), norm, f"head {number}{share}")
    rollout = maps.on_grid(maps.rollout_of_cls)
    rollout = rollout / rollout.mean()
    low, high = rollout.min().item(), rollout.max().item()
    rollout_norm = Normalize(min(low, MIN_ROLLOUT_RANGE[0]), max(high, MIN_ROLLOUT_RANGE[1]))
    panel_title = f"rollout of {len(maps.blocks)} blocks, own scale:\n{low:.2f} to {high:.2f} times its mean"
    show_heatmap(axes_of[1 + len(heads)], pixels, rollout.numpy(), rollout_norm, panel_title)
    _add_colorbar(figure, norm, axes_of)
    add_title(figure, title, f"attention of the {_query_name(maps)}, {block.name}, and its rollout over all blocks")
    return figure


def draw_all_blocks(maps: AttentionMaps, pixels: Array, title: str) -> Figure:
    """Draw the class token's attention in every block: a row for each block, a column for each head."""
    heads = max(len(block.cls_attention) for block in maps.blocks)
    height, width = pixels.shape[:2]
    side = min(1.5, 14 / heads)
    figure = new_figure(1.5 + side * heads, 0.8 + side * height / width * len(maps.blocks))
    axes_of = figure.subplots(len(maps.blocks), heads, squeeze=False)
    on_grid = [[maps.on_grid(head_N) for head_N in block.cls_attention] for block in maps.blocks]
    norm = _norm([heat for row in on_grid for heat in row])
    for block, row, axes_row in zip(maps.blocks, on_grid, axes_of, strict=True):
        for axes in axes_row[len(row) :]:
            axes.set_axis_off()
        for axes, heat in zip(axes_row, row, strict=False):
            show_heatmap(axes, pixels, heat.numpy(), norm, "")
        axes_row[0].set_ylabel(block.name, fontsize=7)
    for number, axes in enumerate(axes_of[0]):
        axes.set_title(f"head {number}", fontsize=7)
    _add_colorbar(figure, norm, list(axes_of.flatten()))
    add_title(figure, title, f"attention of the {_query_name(maps)} in every block")
    return figure


def draw_stages(stages: Sequence[StageAttention], pixels: Array, title: str) -> Figure:
    """Draw the attention of one token in each token attention; the token itself is marked."""
    figure, axes_of = _panels(pixels, 1 + len(stages))
    show_image(axes_of[0], pixels, "image")
    for axes, stage in zip(axes_of[1:], stages, strict=False):
        norm = _norm([stage.weights])
        kind = "softmax" if stage.features is None else "Performer"
        sums_to = stage.weights.mean().item()
        less = f", row sums to {sums_to:.2f}" if sums_to < FULL_ROW_SUM else ""
        panel_title = f"stage {stage.stage}, {kind}, {stage.grid} tokens{less}"
        image = show_heatmap(axes, pixels, stage.weights.numpy(), norm, panel_title)
        figure.colorbar(image, ax=axes, shrink=0.7)
        _mark_token(axes, stage, pixels)
    features = [str(stage.features) for stage in stages if stage.features is not None]
    computed = "\n" + RANDOM_FEATURES.format(features=" and ".join(dict.fromkeys(features))) if features else ""
    add_title(figure, title, f"token attention of the marked token, relative to uniform attention{computed}")
    return figure


def _query_name(maps: AttentionMaps) -> str:
    return CLASS_TOKEN if maps.has_class_token else EVERY_TOKEN


def _panels(pixels: Array, panels: int) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes for a number of panels of the image's shape; the others are blank."""
    height, width = pixels.shape[:2]
    columns = min(PANELS, panels)
    rows = math.ceil(panels / columns)
    figure = new_figure(0.8 + PANEL * columns, 0.9 + rows * (PANEL * height / width + 0.25))
    axes_of = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for axes in axes_of[panels:]:
        axes.set_axis_off()
    return figure, axes_of


def _norm(heats: Sequence[Tensor]) -> Normalize:
    """Return a scale for several maps: from 0 to their maximum, at least to twice uniform attention."""
    return Normalize(0, max(2.0, *(heat.max().item() for heat in heats)))


def _add_colorbar(figure: Figure, norm: Normalize, axes_of: Sequence[Axes]) -> None:
    mappable = ScalarMappable(norm, HEATMAP_COLOURS)
    figure.colorbar(mappable, ax=list(axes_of), shrink=0.6, aspect=30, label="relative to uniform attention")


def _mark_token(axes: Axes, stage: StageAttention, pixels: Array) -> None:
    height, width = pixels.shape[:2]
    x, y = (stage.column + 0.5) * width / stage.grid.width, (stage.row + 0.5) * height / stage.grid.height
    axes.plot(
        x - 0.5, y - 0.5, "o", markersize=7, markerfacecolor="none", markeredgecolor="#56B4E9", markeredgewidth=1.6
    )
