"""Show the progress of a download: a bar with speed and ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from t2tbuild.cli.console import format_duration

if TYPE_CHECKING:
    from rich.console import Console

PRINT_INTERVAL = 30.0  # seconds between plain lines


class DownloadProgress:
    """Show how much of a download has been received; nothing is shown for a cached file."""

    def __init__(self, console: Console, name: str) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as SpeedColumn

        self.console, self.name = console, name
        self.started_at, self.started_with, self.line_at = 0.0, 0, 0.0
        self.bar = Progress(
            TextColumn(name),
            BarColumn(),
            DownloadColumn(),
            SpeedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("download", total=None, visible=False)

    def __enter__(self) -> DownloadProgress:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, done: int, total: int | None) -> None:
        """Show the bytes received, and those of the whole file if they are known."""
        now = time.monotonic()
        if not self.started_at:
            self.started_at, self.started_with, self.line_at = now, done, now
            self._print(f"downloading {self.name}{_size(total)}" + (f", from {_mb(done)} on" if done else ""))
        self.bar.update(self.task, completed=done, total=total, visible=True)
        if not self.console.is_terminal and now - self.line_at > PRINT_INTERVAL:
            self.line_at = now
            rate = (done - self.started_with) / (now - self.started_at)
            eta = f", ETA {format_duration((total - done) / rate)}" if total is not None and rate else ""
            self._print(f"{self.name}: {_mb(done)} received{eta}")

    def _print(self, line: str) -> None:
        if not self.console.is_terminal:
            self.console.print(line, soft_wrap=True)


def _size(total: int | None) -> str:
    return "" if total is None else f" ({_mb(total)})"


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
