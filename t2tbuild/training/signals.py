"""Ctrl-C and SIGTERM while training: the first asks it to stop after its step, a second one stops it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from t2tbuild.errors import Terminated

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Whether training was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def error(self) -> KeyboardInterrupt:
        """What is raised once everything is saved."""
        return Terminated() if self.number == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def listening() -> Iterator[Interrupt]:
    """Take SIGINT and SIGTERM as requests within this context; after the first, they do what they did before.

    A signal that is ignored stays so; outside the main thread nothing is listened for.
    """
    interrupt = Interrupt()
    before: dict[signal.Signals, Any] = {}

    def hear(number: int, _frame: FrameType | None) -> None:
        interrupt.number = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
        for number in before:
            signal.signal(number, hear)
    try:
        yield interrupt
    finally:
        restore()
