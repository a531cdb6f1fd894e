"""The exit code of a process of a search."""

import sys
from collections.abc import Callable

from t2tbuild.errors import T2TBuildError
from t2tbuild.training.signals import Interrupt, handle_signals


def exit_code_of(work: Callable[[Interrupt], None]) -> int:
    """Do the work of a process, which is given the signals that arrive, and return its exit code.

    It is 0, 2 for wrong input, 1 for a failure, or 143 if `work` raises KeyboardInterrupt. Errors go to stderr.
    """
    with handle_signals() as signals:
        try:
            work(signals)
        except T2TBuildError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            return 143
    return 0
