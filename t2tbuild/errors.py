"""What can go wrong, and how a person is told.

Exit codes of the command line: 0 done, 1 it failed, 2 the input was wrong, 130 or 143 interrupted; what was finished
is then saved.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN = 20  # errors of a file that are printed; `diagnostics` has all


@dataclass(frozen=True)
class Diagnostic:
    """One mistake in one place of the input.

    `line` and `column` count from 1; both are 0 where the input has no lines (a command-line override, a whole file).
    `path` is the dotted field, `hint` says what to write instead.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class T2TBuildError(Exception):
    """Any failure that t2tbuild foresees; the command line prints its text without a traceback."""

    exit_code = 1


class InputError(T2TBuildError):
    """The user's input was wrong: an argument, a file, a budget."""

    exit_code = 2


class SpecError(InputError):
    """A spec is wrong. `diagnostics` holds every mistake found, each with its place."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        lines = [str(diagnostic) for diagnostic in self.diagnostics]
        if len(lines) > 1:
            lines = [*lines[:SHOWN], f"{len(lines)} errors"]
        super().__init__("\n".join(lines))


class CostError(T2TBuildError):
    """A model cannot be counted exactly, e.g. it runs an operator that no rule covers."""


class TrainingError(T2TBuildError):
    """Training cannot go on: the loss is not finite, the memory is full, a checkpoint cannot be read."""


class ExportError(T2TBuildError):
    """An exported model does not do what the model does."""


class SearchError(T2TBuildError):
    """A search ended without a result."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread so that it unwinds and saves just as Ctrl-C does."""

    exit_code = 143
