"""A model as a sequence of boxes, each with its output shape and its cost. Torch-free.

The boxes are the rows of `t2tbuild summarize`, in the same order and with the same numbers.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from t2tbuild.cost.model import total_cost
from t2tbuild.layout import Grid
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.tokenizer import Window
from t2tbuild.symbolic.backbones import captions
from t2tbuild.symbolic.leaf import PartCost
from t2tbuild.symbolic.model import ModelPart, block_operations, model_parts
from t2tbuild.symbolic.row import BoxKind, Caption, Row

COLOURS = {
    BoxKind.IMAGE: "#8C959F",
    BoxKind.SPLIT: "#0072B2",
    BoxKind.ATTENTION: "#E69F00",
    BoxKind.LINEAR: "#009E73",
    BoxKind.TOKENS: "#CC79A7",
    BoxKind.BLOCKS: "#D55E00",
    BoxKind.NORM: "#8C959F",
    BoxKind.HEAD: "#56B4E9",
}
"""The palette of Okabe and Ito for colour-blind readers, and gray."""


class Box(NamedTuple):
    """A step of a model.

    `grid`, `tokens` and `channels` describe its output, where known. `share` is its share of the model's MACs, 0 to 1.
    `window` slides over its input grid. `profile` has a value for each block if blocks differ.
    """

    kind: BoxKind
    title: str
    detail: str
    grid: Grid | None
    tokens: int | None
    channels: int | None
    params: int
    macs: int
    share: float
    window: Window | None = None
    profile: tuple[float, ...] = ()


class Join(StrEnum):
    """How the output of a branch is combined with its input."""

    ADD = "added to the branch's input"
    CONCATENATE = "concatenated with the block's input"


JOINS = {"add": Join.ADD, "cat": Join.CONCATENATE}
"""The operations of a block that end a branch, by their kind."""


class Branch(NamedTuple):
    """Modules of a block in sequence, and how their output is combined with the branch's input."""

    boxes: tuple[Box, ...]
    join: Join


@dataclass(frozen=True)
class Architecture:
    """A model as boxes, from the image to the logits.

    `inside` has the modules of a block, with the costs of all `blocks` blocks together.
    """

    name: str
    image: Grid
    in_chans: int
    prefix_tokens: int
    boxes: tuple[Box, ...]
    inside: tuple[Branch, ...]
    blocks: int
    params: int
    trainable_params: int
    macs: int


def build_architecture(model: ModelSpec) -> Architecture:
    """Build the boxes of a model; costs are those of `predict_cost`. Raises CostError without a symbolic forward.

    >>> from t2tbuild import load_spec
    >>> boxes = build_architecture(load_spec("t2t_vit_14").model).boxes
    >>> boxes[1].title, boxes[1].detail, boxes[1].macs
    ('token performer 1', '147 → 64 channels, 32 random features', 156144576)
    """
    parts = model_parts(model)
    cost = total_cost([one.cost for one in parts])
    return Architecture(
        name=model.name,
        image=model.image,
        in_chans=model.in_chans,
        prefix_tokens=model.prefix_tokens,
        boxes=tuple(_box(one.row, one.cost, cost.macs) for one in parts),
        inside=tuple(_block_branches(model, parts, cost.macs)),
        blocks=model.backbone.num_blocks,
        params=cost.params,
        trainable_params=cost.trainable_params,
        macs=cost.macs,
    )


def _box(row: Row, part: PartCost, total: int) -> Box:
    title, shape = row.name.partition(" (")[0], (part.grid, part.tokens, part.channels)
    detail = row.detail if isinstance(row.detail, str) else row.detail()
    return Box(row.kind, title, detail, *shape, part.params, part.macs, part.macs / total, row.window)


def _block_branches(model: ModelSpec, parts: Sequence[ModelPart], total: int) -> Iterator[Branch]:
    """Yield the branches of a block in forward order, with the costs of all blocks."""
    found, params, macs = captions(model.backbone), Counter[str](), Counter[str]()

    def module_of(layer: str) -> str:
        """Return the module that has a box: the innermost one with a caption, or the outermost."""
        inside = [name for name in found if f"{layer}.".startswith(f"{name}.")]
        return max(inside, key=len, default=layer.partition(".")[0])

    def box(name: str) -> Box:
        caption = found.get(name, Caption(BoxKind.LINEAR, name, ""))
        profile = caption.profile if len(set(caption.profile)) > 1 else ()
        costs = (params[name], macs[name], macs[name] / total)
        return Box(caption.kind, caption.title, caption.detail, None, None, None, *costs, profile=profile)

    for count in (count for one in parts if one.row.kind is BoxKind.BLOCKS for count in one.counts):
        for leaf in count.leaves:
            params[module_of(leaf.name)] += leaf.trained + leaf.frozen
            macs[module_of(leaf.name)] += leaf.macs
    modules: list[str] = []
    for operation in block_operations(model):
        if operation.name:
            modules.append(module_of(operation.name))
        elif operation.kind in JOINS:
            yield Branch(tuple(map(box, dict.fromkeys(modules))), JOINS[operation.kind])
            modules = []
