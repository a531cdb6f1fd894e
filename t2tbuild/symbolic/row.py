"""The rows of a model: what stands in its cost table and in its diagram."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from t2tbuild.errors import CostError
from t2tbuild.layout import Grid
from t2tbuild.spec.base import Node
from t2tbuild.spec.extension.registry import entry_of, name_of
from t2tbuild.spec.tokenizer import Window

T = TypeVar("T")


class BoxKind(StrEnum):
    """The kind of a step; each has a colour in diagrams."""

    IMAGE = "image"
    SPLIT = "split"
    ATTENTION = "attention"
    LINEAR = "linear"
    TOKENS = "tokens"
    BLOCKS = "blocks"
    NORM = "norm"
    HEAD = "head"


class Row(NamedTuple):
    """A row of a model's cost table and a box of its diagram.

    `modules` are the names of its submodules and parameters in the built module, `detail` is its text in the diagram,
    or a function that returns it, `grid` that of its output tokens; `window` slides over its input grid.
    """

    name: str
    modules: tuple[str, ...]
    kind: BoxKind
    detail: str | Callable[[], str]
    grid: Grid | None = None
    window: Window | None = None


Call = tuple[Any, ...]
"""A function of (forward, tensor, *arguments), and its arguments; the result is the next tensor."""

Step = Row | Call
"""A row, or a call that belongs to the row before it."""


class Caption(NamedTuple):
    """The text of a module of a block in the diagram. `profile` has a value for each block."""

    kind: BoxKind
    title: str
    detail: str
    profile: tuple[float, ...] = ()


def entry(table: Mapping[type[Node], T], node: Node) -> T:
    """Return the entry of a node's class, or the symbolic forward of its extension. Raises CostError if it has none."""
    found: T | None = entry_of(table, node, lambda extension: extension.forward)
    if found is None:
        raise CostError(f"{name_of(node)} has no symbolic forward, which predicts costs; count it with measure_cost")
    return found
