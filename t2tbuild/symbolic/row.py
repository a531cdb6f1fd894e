"""The rows of a model: what stands in its cost table and in its diagram."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from t2tbuild.errors import CostError
from t2tbuild.layout import Grid
from t2tbuild.spec.base import Node
from t2tbuild.spec.extension.registry import REGISTERED
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

    `modules` are the names of its submodules and parameters in the built module, `detail` is what the diagram says, or
    a function that returns it, `grid` that of its output tokens; `window` slides over its input grid.
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
    """What the diagram says about a module of a block. `profile` has a value for each block."""

    kind: BoxKind
    title: str
    detail: str
    profile: tuple[float, ...] = ()


def entry(table: Mapping[type[Node], T], node: Node) -> T:
    """Return the entry of a node's class, or the symbolic forward of its extension. Raises CostError if it has none."""
    found: Any = table.get(type(node))
    if found is None and (extension := REGISTERED.get(type(node))):
        found = extension.forward
    if found is None:
        name = getattr(node, "kind", type(node).__name__)
        raise CostError(f"{name} has no symbolic forward, which predicts costs; count it with measure_cost")
    return found  # type: ignore[no-any-return]
