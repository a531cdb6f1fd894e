"""The parts of a model: the rows of its cost table, and the modules that belong to each."""

from typing import NamedTuple


class Grid(NamedTuple):
    """Rows and columns of tokens or pixels."""

    height: int
    width: int

    @property
    def tokens(self) -> int:
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.height} x {self.width}"


class Part(NamedTuple):
    """One row of a model's cost table.

    `grid`, `tokens` and `channels` describe the output of the part; None if unknown. `modules` are the names of its
    submodules and parameters in the built module.
    """

    name: str
    modules: tuple[str, ...]
    grid: Grid | None = None
    tokens: int | None = None
    channels: int | None = None
