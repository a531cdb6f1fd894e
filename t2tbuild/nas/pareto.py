"""The Pareto front of points whose coordinates are all to be minimised. Torch-free."""

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Return the indices of the points that no other point dominates, in rising order.

    A point dominates another if it is at most as large in every coordinate and differs from it. Equal points do not
    dominate each other, so they are on the front together.

        >>> pareto_front([(1, 3), (2, 2), (3, 3)])
        [0, 1]
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=points.__getitem__):  # a point follows those that dominate it
        if not any(_dominates(points[other], points[index]) for other in front):
            front.append(index)
    return sorted(front)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
