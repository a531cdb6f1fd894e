"""The cost of a model: a tree of parts with their parameters and multiply-adds, predicted or counted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from t2tbuild.layout import Part
from t2tbuild.symbolic.leaf import Counted, Leaf, PartCost

CONVENTION = (
    "MACs as fvcore: multiply-adds of linear, conv, matmul, QK^T, AV; LayerNorm 5 an element; softmax, GELU, exp 0"
)

EVERY_LEVEL = 99
"""More levels of rows than any model has."""


@dataclass(frozen=True)
class Cost:
    """Parameters (all, and the trained ones) and multiply-adds of the forward pass of one image, total and per part."""

    params: int
    trainable_params: int
    macs: int
    parts: tuple[PartCost, ...]


def total_cost(parts: Iterable[PartCost]) -> Cost:
    """Sum the costs of the parts of a model."""
    rows = tuple(parts)
    params = trained = macs = 0
    for row in rows:
        params += row.params
        trained += row.trainable_params
        macs += row.macs
    return Cost(params, trained, macs, rows)


def with_rows(part: PartCost, modules: Sequence[str], counts: Sequence[Counted], depth: int) -> PartCost:
    """Return a part with `depth` levels of rows, including its own: those of its modules, or inside its only one."""
    if depth < 2:
        return part
    if len(counts) == 1:
        return part._replace(parts=_unfold(counts[0].leaves, depth - 1))
    rows = [_row(module, count.leaves, depth - 1) for module, count in zip(modules, counts, strict=True)]
    return part._replace(parts=tuple(rows))


def with_depth(cost: Cost, depth: int) -> Cost:
    """Return a cost with at most `depth` levels of rows."""
    return replace(cost, parts=_with_depth(cost.parts, depth))


def _with_depth(parts: Sequence[PartCost], depth: int) -> tuple[PartCost, ...]:
    return tuple(part._replace(parts=_with_depth(part.parts, depth - 1)) for part in parts) if depth else ()


def _unfold(leaves: Iterable[Leaf], depth: int) -> tuple[PartCost, ...]:
    """Group leaves by the first part of their names, `depth` levels deep; a leaf without a name makes no row."""
    groups: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        first, _, rest = leaf.name.partition(".")
        if first:
            groups.setdefault(first, []).append(leaf._replace(name=rest))
    return tuple(_row(name, group, depth) for name, group in groups.items())


def _row(name: str, leaves: Sequence[Leaf], depth: int) -> PartCost:
    inner = _unfold(leaves, depth - 1) if depth > 1 else ()
    return PartCost.of(Part(name, ()), [Counted.of(*leaves)])._replace(parts=inner)


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
