"""The result of a count, whoever counted: a tree of parts with their parameters and multiply-adds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from t2tbuild.layout import Grid, Part

CONVENTION = (
    "MACs as fvcore: multiply-adds of linear, conv, matmul, QK^T, AV; LayerNorm 5 an element; softmax, GELU, exp 0"
)

EVERY_LEVEL = 99
"""Levels of rows that no model has."""

PRODUCTS = "products"
"""The row of the matrix products that a module does itself, beside those of its submodules: Q K^T and A V."""


class PartCost(NamedTuple):
    """The cost of one part of a model; `grid`, `tokens` and `channels` are those of what it gives out, where known.

    `parts` are what it consists of, as deep as was asked for: submodules by their names, parameters of its own, and
    PRODUCTS.
    """

    name: str
    grid: Grid | None
    tokens: int | None
    channels: int | None
    params: int
    trainable_params: int
    macs: int
    parts: tuple["PartCost", ...] = ()


@dataclass(frozen=True)
class Cost:
    """Parameters (all, and the trained ones) and multiply-adds of one image's forward pass, total and per part."""

    params: int
    trainable_params: int
    macs: int
    parts: tuple[PartCost, ...]


class Leaf(NamedTuple):
    """The smallest thing that is counted: a layer, a parameter, the products of a module.

    `name` is dotted and seen from the module that it is in; empty, the module itself.
    """

    name: str
    macs: int
    trained: int
    frozen: int = 0


class Counted(NamedTuple):
    """The leaves of one module, with their sums."""

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


def total_cost(parts: Iterable[Part], modules: Iterable[Sequence[Counted]], depth: int = 1) -> Cost:
    """The cost of a model from the counts of each part's modules; rows are unfolded `depth` levels deep."""
    rows = tuple([_part_cost(part, counts, depth) for part, counts in zip(parts, modules, strict=True)])
    params = trained = macs = 0
    for row in rows:
        params += row.params
        trained += row.trainable_params
        macs += row.macs
    return Cost(params, trained, macs, rows)


def _part_cost(part: Part, counts: Sequence[Counted], depth: int) -> PartCost:
    macs = trained = frozen = 0
    for _, module_macs, module_trained, module_frozen in counts:
        macs += module_macs
        trained += module_trained
        frozen += module_frozen
    inner: tuple[PartCost, ...] = ()
    if depth > 1 and len(counts) == 1:
        inner = _unfold(counts[0].leaves, depth - 1)
    elif depth > 1:
        inner = tuple(_row(module, count.leaves, depth - 1) for module, count in zip(part.modules, counts, strict=True))
    return PartCost(part.name, part.grid, part.tokens, part.channels, trained + frozen, trained, macs, inner)


def _unfold(leaves: Iterable[Leaf], depth: int) -> tuple[PartCost, ...]:
    """Leaves grouped by the first part of their names, `depth` levels deep; a leaf without a name is no row."""
    groups: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        first, _, rest = leaf.name.partition(".")
        if first:
            groups.setdefault(first, []).append(leaf._replace(name=rest))
    return tuple(_row(name, group, depth) for name, group in groups.items())


def _row(name: str, leaves: Sequence[Leaf], depth: int) -> PartCost:
    _, macs, trained, frozen = Counted.of(*leaves)
    inner = _unfold(leaves, depth - 1) if depth > 1 else ()
    return PartCost(name, None, None, None, trained + frozen, trained, macs, inner)


@dataclass(frozen=True)
class Difference:
    """A row that two counts do not agree on; `path` names the rows that it is in. One may have no such row: None."""

    path: str
    predicted: tuple[int, int, int] | None
    counted: tuple[int, int, int] | None

    def __str__(self) -> str:
        message = [
            "no such row" if one is None else f"{one[0]:,} MACs, {one[1]:,} parameters, {one[2]:,} of them trained"
            for one in (self.predicted, self.counted)
        ]
        return f"{self.path}: the formula gives {message[0]}; fvcore counts {message[1]}"


def differences(predicted: Cost, counted: Cost) -> list[Difference]:
    """The innermost rows that a prediction and a count do not agree on; empty where they are equal everywhere."""
    return _differences("", predicted.parts, counted.parts)


def _differences(above: str, predicted: Sequence[PartCost], counted: Sequence[PartCost]) -> list[Difference]:
    found: list[Difference] = []
    ours, theirs = ({row.name: row for row in rows} for rows in (predicted, counted))
    for name in dict.fromkeys([*ours, *theirs]):
        path, row, other = f"{above} > {name}".removeprefix(" > "), ours.get(name), theirs.get(name)
        inner = _differences(path, row.parts, other.parts) if row and other else []
        found += inner
        if not inner and _figures(row) != _figures(other):
            found.append(Difference(path, _figures(row), _figures(other)))
    return found


def _figures(row: PartCost | None) -> tuple[int, int, int] | None:
    return (row.macs, row.params, row.trainable_params) if row else None
