"""The cost of a model: a tree of parts with their parameters and multiply-adds, predicted or counted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from t2tbuild.layout import Grid, Part
from t2tbuild.symbolic.leaf import Counted, Leaf

CONVENTION = (
    "MACs as fvcore: multiply-adds of linear, conv, matmul, QK^T, AV; LayerNorm 5 an element; softmax, GELU, exp 0"
)

EVERY_LEVEL = 99
"""More levels of rows than any model has."""


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


@dataclass(frozen=True)
class Cost:
    """Parameters (all, and the trained ones) and multiply-adds of the forward pass of one image, total and per part."""

    params: int
    trainable_params: int
    macs: int
    parts: tuple[PartCost, ...]


def total_cost(parts: Iterable[Part], modules: Iterable[Sequence[Counted]], depth: int = 1) -> Cost:
    """Sum the counts of each part's modules to the cost of a model, with `depth` levels of rows."""
    rows = tuple([_part_cost(part, counts, depth) for part, counts in zip(parts, modules, strict=True)])
    params = trained = macs = 0
    for row in rows:
        params += row.params
        trained += row.trainable_params
        macs += row.macs
    return Cost(params, trained, macs, rows)


def with_depth(cost: Cost, depth: int) -> Cost:
    """Return a cost with at most `depth` levels of rows."""
    return replace(cost, parts=_with_depth(cost.parts, depth))


def _with_depth(parts: Sequence[PartCost], depth: int) -> tuple[PartCost, ...]:
    return tuple(part._replace(parts=_with_depth(part.parts, depth - 1)) for part in parts) if depth else ()


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
    """Group leaves by the first part of their names, `depth` levels deep; a leaf without a name makes no row."""
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
    """A row that differs between two counts; `path` is its path of rows. A count without the row is None."""

    path: str
    predicted: tuple[int, int, int] | None
    counted: tuple[int, int, int] | None

    def __str__(self) -> str:
        message = [
            "no such row" if one is None else f"{one[0]:,} MACs, {one[1]:,} parameters, {one[2]:,} of them trained"
            for one in (self.predicted, self.counted)
        ]
        return f"{self.path}: the closed form gives {message[0]}; fvcore counts {message[1]}"


def differences(predicted: Cost, counted: Cost) -> list[Difference]:
    """Return the innermost rows that differ between a prediction and a count; empty if they are equal."""
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
