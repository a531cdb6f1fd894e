"""The parts of a model: what the spec names, the module is made of, and the cost is told for."""

from typing import NamedTuple


class Grid(NamedTuple):
    """Tokens, or pixels, laid out as rows and columns."""

    height: int
    width: int

    @property
    def tokens(self) -> int:
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.height} x {self.width}"


class Part(NamedTuple):
    """One row of a model's table.

    `grid`, `tokens` and `channels` describe what the part gives out, where it is known; `modules` are the names, in the
    built module, of the submodules and parameters that belong to it.
    """

    name: str
    modules: tuple[str, ...]
    grid: Grid | None
    tokens: int | None
    channels: int | None
