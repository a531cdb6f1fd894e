"""Errors, and the diagnostics of wrong input.

Exit codes of the command line: 0 done, 1 failed, 2 wrong input, 130 or 143 interrupted after finished work was saved.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An error or a warning at one place of the input.

    Attributes:
        file: The file, or the command-line override.
        line, column: Counted from 1; both 0 if the input has no lines (an override, a whole file).
        path: The dotted path of the field.
        rule: The name of the violated rule, for programs.
        message: What is wrong, with the value.
        hint: What to write instead.
        text: The line of the input.
        length: The number of marked characters of `text`, from `column` on.
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
    """Count the errors and warnings, for example "2 errors in mine.yaml"."""
    counts = []
    for severity in ("error", "warning"):
        number = sum(diagnostic.severity == severity for diagnostic in diagnostics)
        if number:
            counts.append(f"{number} {severity}{'s' * (number > 1)}")
    if all(diagnostic.text and not diagnostic.line for diagnostic in diagnostics):
        return f"{' and '.join(counts)} on the command line"
    files = list(dict.fromkeys(diagnostic.file for diagnostic in diagnostics))
    return f"{' and '.join(counts)} in {files[0] if len(files) == 1 else f'{len(files)} files'}"


OUT_OF_MEMORY_TEXTS = ("out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")
"""Texts in torch's messages when memory is full; on the CPU it raises a plain RuntimeError."""


def is_memory_full(error: Exception) -> bool:
    """Return whether an error of torch or Python means that the memory is full."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)


MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)
"""Numbers of an OSError that no candidate causes: a full, read-only or broken disk, or no file descriptor."""


def is_machine_fault(error: BaseException) -> bool:
    """Return whether an error is that of a full or read-only disk, or of a process without file descriptors."""
    return isinstance(error, OSError) and error.errno in MACHINE_FAULTS


class T2TBuildError(Exception):
    """The base class of all expected failures; the command line prints the message without a traceback."""

    exit_code = 1


class InputError(T2TBuildError):
    """The user's input is wrong: an argument, a file, a budget."""

    exit_code = 2


class SpecError(InputError):
    """A spec is wrong. `diagnostics` holds all errors found, each with its place."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join([*map(str, self.diagnostics), tally(self.diagnostics)]))


class FieldError(InputError):
    """A field of a valid spec cannot be used for an operation, for example because a file it names is missing.

    `path` is the path of the field from the root of the spec. The code that read the spec from a file adds the line.
    """

    def __init__(self, path: tuple[str | int, ...], rule: str, message: str, hint: str = "") -> None:
        self.path, self.rule, self.message, self.hint = path, rule, message, hint
        super().__init__(f"{'.'.join(map(str, path))}: {message}" + (f" ({hint})" if hint else ""))


class UnknownFieldError(FieldError):
    """A key of a spec names a field that does not exist. The place of the error is the key, not its value."""


class SeveralFieldsError(InputError):
    """Several fields are wrong; see FieldError."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


class CostError(T2TBuildError):
    """A model cannot be counted exactly or measured: an unknown operator, a full memory."""


class TrainingError(T2TBuildError):
    """Training cannot continue: the loss is not finite, the memory is full, a checkpoint cannot be read."""


class ExportError(T2TBuildError):
    """An exported model returns other logits than the model."""


class DownloadError(T2TBuildError):
    """A file cannot be downloaded, or is not the file that was expected."""


class UploadError(T2TBuildError):
    """Files cannot be published."""


class SearchError(T2TBuildError):
    """A search ended without a result."""


class StorageError(SearchError):
    """The storage or the disk of a search refuses what it reads or writes. What is stored is kept."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread, so that the program saves and exits as on Ctrl-C."""

    exit_code = 143


def first_line(error: BaseException, most: int | None = None) -> str:
    """Return the first line of an error's message, of at most `most` characters; empty if it has none."""
    return (str(error).strip().splitlines() or [""])[0][:most]
