"""Show the progress of a search: a live table on a terminal, a line per candidate elsewhere."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from t2tbuild.cli.console import format_duration
from t2tbuild.spec.units import short_count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from t2tbuild.nas import Record
    from t2tbuild.spec import SearchSpec


class SearchProgress:
    """Print the records of a search as they arrive."""

    def __init__(self, console: Console, spec: SearchSpec) -> None:
        self.console, self.search = console, spec.search
        self.records: dict[tuple[str, int, bool], Record] = {}
        self.started = time.monotonic()
        self.done_before: int | None = None
        self.live: Live | None = None
        if console.is_terminal:
            from rich.live import Live

            self.live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> SearchProgress:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def update(self, record: Record) -> None:
        """Show a training that started, reached a rung, or ended."""
        from t2tbuild.nas.ranking import Ranking
        from t2tbuild.nas.record import State
        from t2tbuild.report.candidates_table import candidates_table

        known = self.records.get((record.number, record.seed, record.full))
        self.records[record.number, record.seed, record.full] = record
        done = sum(one.state.trained and one.seed == 0 and one.number != "base" for one in self.records.values())
        if record.state is State.RUNNING and self.done_before is None:
            self.done_before = done  # by an earlier process
        title = f"{self.search.name}: {done} of {self.search.trials} candidates, {self._format_times(done)}"
        if self.live:
            records = [*self.records.values()]
            table = candidates_table(records, Ranking(self.search, records), title=title, proxy=self.search.proxy)
            self.live.update(table, refresh=True)
        elif (record.rungs and (known is None or known.rungs != record.rungs)) or record.state is not State.RUNNING:
            self.console.print(f"{_format_record(record)}  [{title}]", soft_wrap=True, markup=False)

    def _format_times(self, done: int) -> str:
        new, elapsed = done - (self.done_before or 0), time.monotonic() - self.started
        left = "?"
        if self.done_before is not None and new:
            until_timeout = max(0.0, (self.search.timeout or math.inf) - elapsed)
            left = format_duration(min(until_timeout, elapsed / (new + 1) * (self.search.trials - done)))
        return f"{format_duration(elapsed)}, ETA {left}"


def _format_record(record: Record) -> str:
    shape = f"depth {record.model.backbone.depth} width {record.model.backbone.embed_dim}" if record.model else ""
    macs = f"{short_count(record.macs)} MACs" if record.macs else ""
    rungs = " ".join(f"@{rung.steps} {rung.accuracy:.1%}, loss {rung.loss:.2f}" for rung in record.rungs[-1:])
    name = record.number if not record.seed else f"{record.number} seed {record.seed}"
    return "  ".join(part for part in (f"{name:>8}", shape, macs, rungs, str(record.state), record.reason) if part)
