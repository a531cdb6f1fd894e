"""What a module costs: its leaves, which are layers, and a row of the cost table."""

from collections.abc import Iterable
from typing import NamedTuple, Self

from t2tbuild.layout import Grid, Part

PRODUCTS = "products"
"""The name of the row for a module's own matrix products, Q K^T and A V, besides those of its submodules."""


class Leaf(NamedTuple):
    """The smallest unit of a count: a layer, a parameter, or the products of a module.

    `name` is the dotted path within the counted module; empty for the module itself.
    """

    name: str
    macs: int
    trained: int
    frozen: int = 0


class Counted(NamedTuple):
    """The leaves of one module and their sums."""

    leaves: tuple[Leaf, ...]
    macs: int
    trained: int
    frozen: int

    @classmethod
    def of(cls, *leaves: Leaf) -> Self:
        macs = trained = frozen = 0
        for _, leaf_macs, leaf_trained, leaf_frozen in leaves:
            macs += leaf_macs
            trained += leaf_trained
            frozen += leaf_frozen
        return cls(leaves, macs, trained, frozen)


class PartCost(NamedTuple):
    """The cost of one part of a model. `grid`, `tokens` and `channels` describe its output; None if unknown.

    `parts` are its rows, down to the requested depth: submodules and own parameters by name, and PRODUCTS.
    """

    name: str
    grid: Grid | None
    tokens: int | None
    channels: int | None
    params: int
    trainable_params: int
    macs: int
    parts: tuple["PartCost", ...] = ()

    @classmethod
    def of(cls, part: Part, counts: Iterable[Counted]) -> Self:
        """Return the sum of the counts of the modules of a part."""
        macs = trained = frozen = 0
        for _, module_macs, module_trained, module_frozen in counts:
            macs += module_macs
            trained += module_trained
            frozen += module_frozen
        return cls(part.name, part.grid, part.tokens, part.channels, trained + frozen, trained, macs)
