"""Ctrl-C and SIGTERM in training: the first stops it after the current step, the second at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from t2tbuild.errors import Terminated

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """A request to stop, true once a signal has arrived."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def exception(self) -> KeyboardInterrupt:
        """Return the exception to raise once everything is saved."""
        return Terminated() if self.signal_number == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def handle_signals() -> Iterator[Interrupt]:
    """Treat SIGINT and SIGTERM as requests to stop within this context.

    The first signal restores the previous handlers. An ignored signal stays ignored; outside the main thread no handler
    is installed.
    """
    interrupt = Interrupt()
    previous: dict[signal.Signals, Any] = {}

    def handler(number: int, _frame: FrameType | None) -> None:
        interrupt.signal_number = number
        restore()

    def restore() -> None:
        for number, action in previous.items():
            signal.signal(number, action)

    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.getsignal(number) for number in SIGNALS}
        previous = {number: action for number, action in previous.items() if action not in (signal.SIG_IGN, None)}
        for number in previous:
            signal.signal(number, handler)
    try:
        yield interrupt
    finally:
        restore()
