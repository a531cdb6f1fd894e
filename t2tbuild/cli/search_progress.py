"""What is seen of a search while it goes on: a live table on a terminal, a line a candidate elsewhere."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from t2tbuild.cli.console import minutes
from t2tbuild.spec.units import short_count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from t2tbuild.nas import Record
    from t2tbuild.spec import SearchSpec


class SearchProgress:
    """Hears of every training, and shows it."""

    def __init__(self, console: Console, spec: SearchSpec) -> None:
        self.console, self.what = console, spec.search
        self.records: dict[tuple[str, int, bool], Record] = {}
        self.started = time.monotonic()
        self.before: int | None = None
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

    def hear(self, record: Record) -> None:
        """Show a training that began, came to a rung, or ended."""
        from t2tbuild.nas.ranking import Ranking
        from t2tbuild.nas.record import State
        from t2tbuild.report.candidates_table import candidates_table

        known = self.records.get((record.number, record.seed, record.full))
        self.records[record.number, record.seed, record.full] = record
        done = sum(one.state.trained and one.seed == 0 and one.number != "base" for one in self.records.values())
        if record.state is State.CLIMBING and self.before is None:
            self.before = done  # of an earlier process
        title = f"{self.what.name}: {done} of {self.what.trials} candidates, {self._times(done)}"
        if self.live:
            records = [*self.records.values()]
            table = candidates_table(records, Ranking(self.what, records), title=title, proxy=self.what.proxy)
            self.live.update(table, refresh=True)
        elif (record.rungs and (known is None or known.rungs != record.rungs)) or record.state is not State.CLIMBING:
            self.console.print(f"{_line(record)}  [{title}]", soft_wrap=True, markup=False)

    def _times(self, done: int) -> str:
        new, passed = done - (self.before or 0), time.monotonic() - self.started
        left = "?"
        if self.before is not None and new:
            ends = max(0.0, (self.what.timeout or math.inf) - passed)
            left = minutes(min(ends, passed / (new + 1) * (self.what.trials - done)))
        return f"{minutes(passed)}, ETA {left}"


def _line(record: Record) -> str:
    shape = f"depth {record.model.backbone.depth} width {record.model.backbone.embed_dim}" if record.model else ""
    macs = f"{short_count(record.macs)} MACs" if record.macs else ""
    rungs = " ".join(f"@{rung.steps} {rung.accuracy:.1%}, loss {rung.loss:.2f}" for rung in record.rungs[-1:])
    name = record.number if not record.seed else f"{record.number} seed {record.seed}"
    return "  ".join(part for part in (f"{name:>8}", shape, macs, rungs, str(record.state), record.reason) if part)
