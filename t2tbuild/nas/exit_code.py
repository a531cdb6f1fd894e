"""The exit code of a process of a search, and the lines of its log."""

import contextlib
import os
from collections.abc import Callable

from t2tbuild.errors import StorageError, T2TBuildError
from t2tbuild.training.signals import Interrupt, handle_signals

NO_STORAGE = 74
"""The exit code where the storage or the disk refuses what a process writes: EX_IOERR of sysexits.h."""


def write_log(line: str) -> None:
    """Write a line to stderr, the log of a process. One that a full disk refuses is left out."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))


def exit_code_of(work: Callable[[Interrupt], None]) -> int:
    """Do the work of a process, which is given the signals that arrive, and return its exit code.

    It is 0, 2 for wrong input, 74 for a StorageError, 1 for another failure, or 143 if `work` raises KeyboardInterrupt.
    Errors go to stderr.
    """
    with handle_signals() as signals:
        try:
            work(signals)
        except T2TBuildError as error:
            write_log(f"error: {error}")
            return NO_STORAGE if isinstance(error, StorageError) else error.exit_code
        except KeyboardInterrupt:
            return 143
    return 0
