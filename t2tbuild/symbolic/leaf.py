"""What a module costs, by layer: the leaves of a count."""

from typing import NamedTuple, Self

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
