"""What can go wrong, and how a person is told.

Exit codes of the command line: 0 done, 1 it failed, 2 the input was wrong, 130 or 143 interrupted; what was finished
is then saved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake, or one thing that is likely a slip, in one place of the input.

    `line` and `column` count from 1; both are 0 where the input has no lines (a command-line override, a whole file).
    `path` is the dotted field, `rule` the rule's name for machines, `hint` says what to write instead. `text` is the
    line that is meant, and `length` how many of its characters from `column` on.
    """

    file: str
    line: int
    column: int
    path: str
    rule: str
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"
    text: str = ""
    length: int = 1

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.severity}: {self.message}" + (f" ({self.hint})" if self.hint else "")


def tally(diagnostics: Sequence[Diagnostic]) -> str:
    """How many there are of each kind, and in what: 2 errors in mine.yaml."""
    counts = []
    for severity in ("error", "warning"):
        number = sum(diagnostic.severity == severity for diagnostic in diagnostics)
        if number:
            counts.append(f"{number} {severity}{'s' * (number > 1)}")
    if all(diagnostic.text and not diagnostic.line for diagnostic in diagnostics):
        return f"{' and '.join(counts)} on the command line"
    files = list(dict.fromkeys(diagnostic.file for diagnostic in diagnostics))
    return f"{' and '.join(counts)} in {files[0] if len(files) == 1 else f'{len(files)} files'}"


FULL_MEMORY = ("out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch calls a full memory; on the CPU it is a plain RuntimeError."""


def is_memory_full(error: Exception) -> bool:
    """Whether an error of torch or Python tells that the memory is full."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in FULL_MEMORY)


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
        super().__init__("\n".join([*map(str, self.diagnostics), tally(self.diagnostics)]))


class FieldError(InputError):
    """A field of a spec is wrong for what is wanted of it, which only that other part of the house can know.

    `path` is the field seen from the spec's root. Who has read the spec from a file tells the place as well.
    """

    def __init__(self, path: tuple[str | int, ...], rule: str, message: str, hint: str = "") -> None:
        self.path, self.rule, self.message, self.hint = path, rule, message, hint
        super().__init__(f"{'.'.join(map(str, path))}: {message}" + (f" ({hint})" if hint else ""))


class UnknownFieldError(FieldError):
    """A key of a spec names a field that is not there; it is told at the key."""


class SeveralFieldsError(InputError):
    """Several fields are wrong; see FieldError."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


class CostError(T2TBuildError):
    """A model cannot be counted exactly, or measured: an operator that no rule covers, a full memory."""


class TrainingError(T2TBuildError):
    """Training cannot go on: the loss is not finite, the memory is full, a checkpoint cannot be read."""


class ExportError(T2TBuildError):
    """An exported model does not do what the model does."""


class SearchError(T2TBuildError):
    """A search ended without a result."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread so that it unwinds and saves just as Ctrl-C does."""

    exit_code = 143
