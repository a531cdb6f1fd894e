"""Find the largest value that fits, by bisection."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def largest(values: Sequence[T], fits: Callable[[T], bool]) -> T | None:
    """Return the last of increasing values that fits, or None if the first does not.

    If a value fits, all smaller ones must fit too.

    >>> largest(range(1, 65), lambda depth: depth * 340 <= 5000)
    14
    """
    fitting = bisect_right(values, False, key=lambda value: not fits(value))
    return values[fitting - 1] if fitting else None
