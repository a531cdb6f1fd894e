"""Show the progress of a search: what is searched, then a live table on a terminal, a line per candidate elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from t2tbuild.cli.console import format_duration, stderr
from t2tbuild.cli.continuing import continue_command, start_again_command
from t2tbuild.cli.supernet_status import describe_phase
from t2tbuild.spec.units import plural, short_count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from t2tbuild.nas import Record
    from t2tbuild.nas.supernet.progress import PhaseProgress
    from t2tbuild.spec import SearchSpec
    from t2tbuild.spec.search import Search
    from t2tbuild.training.data.image_cache import CacheProgress
    from t2tbuild.training.reports import Notice

LINE_SECONDS = 10.0
"""Time between two lines on the progress of a cache or a supernet, where the output is no terminal."""


def describe_start(search: Search, run: Path, workers: int | None, storage: str | None) -> str:
    """Return the line that is printed before anything is loaded: what is searched, and where the results will be."""
    count = "one worker per GPU or CPU core" if workers is None else plural(workers, "worker")
    started = has_study(run, storage)
    return (
        f"{'continuing' if started else 'searching'} {search.name}: {plural(search.trials, 'candidate')} within "
        f"{search.budget.summary}, base {Path(search.base).stem}, {count}, run directory {run}"
        f"{'' if started else '; the first result takes about a minute'}"
    )


def has_study(run: Path, storage: str | None) -> bool:
    """Whether a run directory has a study to resume, in itself or in a storage that machines share."""
    from t2tbuild.nas.store.url import DATABASE, is_shared

    return (run / "spec.yaml").exists() and (is_shared(storage, run) or (run / DATABASE).exists())


@contextmanager
def report_interrupt(
    run: Path | None = None, storage: str | None = None, spec: SearchSpec | None = None
) -> Iterator[None]:
    """Print what is saved, and the command that goes on, where Ctrl-C or SIGTERM ends the work in this context.

    `run` is the run directory and `spec` its search, None as long as there is none, or it is not known.
    """
    try:
        yield
    except KeyboardInterrupt:
        if run is not None and has_study(run, storage):
            message = f"interrupted; finished results are saved; continue with:\n{resume_command(run, spec)}"
        else:
            message = f"interrupted; nothing was saved yet; start again with:\n{start_again_command()}"
        stderr().print(message, soft_wrap=True, markup=False)
        raise


def resume_command(run: Path, spec: SearchSpec | None) -> str:
    """Return the command that continues a run on the same --device, with a reminder to pass the same --storage."""
    more: list[str] = []
    for place, argument in enumerate(sys.argv):
        if argument.split("=")[0] == "--device":
            more += sys.argv[place : place + (1 if "=" in argument else 2)]
    has_storage = any(argument.split("=")[0] == "--storage" for argument in sys.argv)
    data = None if spec is None else spec.search.proxy.data
    command = continue_command(["search", "resume"], run, data, more)
    limit = None if spec is None else spec.search.budget.latency
    command += " --allow-command" if limit is not None and limit.command is not None else ""  # consent is not kept
    return command + (" --storage URL  (the same)" if has_storage else "")


class SearchProgress:
    """Print the records of a search as they arrive."""

    def __init__(self, console: Console, spec: SearchSpec) -> None:
        self.console, self.search = console, spec.search
        self.records: dict[tuple[str, int, bool], Record] = {}
        self.started = self.counted_from = time.monotonic()
        self.done_before: int | None = None
        self.shown_at = 0.0 if console.is_terminal else time.monotonic()
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

    def report(self, progress: CacheProgress | Notice | PhaseProgress) -> None:
        """Show a notice, or the progress of the cache or the supernet: on a terminal in place, elsewhere by lines."""
        from t2tbuild.nas.supernet.progress import PhaseProgress
        from t2tbuild.training.reports import Notice

        if isinstance(progress, Notice):
            self.console.print(progress.text, soft_wrap=True, markup=False)
            return
        now, is_last = time.monotonic(), progress.done == progress.total
        if now - self.shown_at < (0.2 if self.live else LINE_SECONDS) and not (is_last and self.shown_at):
            return
        self.shown_at = self.counted_from = now
        line = _format_phase(progress) if isinstance(progress, PhaseProgress) else _format_cache(progress)
        if self.live:
            from rich.text import Text

            self.live.update(Text("" if is_last else line), refresh=True)
        if not self.live or is_last:
            self.console.print(line, soft_wrap=True, markup=False)

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
        confirmations = self._count_confirmations()
        title = f"{self.search.name}: {done} of {self.search.trials} candidates"
        title += f", {plural(confirmations, 'confirmation run')} left" if confirmations else ""
        title += f", {self._format_times(done, confirmations)}"
        if self.live:
            records = [*self.records.values()]
            table = candidates_table(records, Ranking(self.search, records), title=title, proxy=self.search.proxy)
            self.live.update(table, refresh=True)
        elif (record.rungs and (known is None or known.rungs != record.rungs)) or record.state is not State.RUNNING:
            self.console.print(f"{_format_record(record)}  [{title}]", soft_wrap=True, markup=False)

    def _count_confirmations(self) -> int:
        """Return how many confirmation runs of the candidates so far are missing or running."""
        from t2tbuild.nas.record import BASE, State
        from t2tbuild.nas.reference_runs import plan_confirmations

        def is_reference(one: Record) -> bool:
            return bool(one.seed or one.full or one.number == BASE)

        candidates = [one for one in self.records.values() if not is_reference(one)]
        runs = [one for one in self.records.values() if is_reference(one)]
        running = sum(one.state is State.RUNNING and one.number != BASE for one in runs)
        return running + len(plan_confirmations(self.search, candidates, runs))

    def _format_times(self, done: int, confirmations: int) -> str:
        new, elapsed = done - (self.done_before or 0), time.monotonic() - self.started
        since = time.monotonic() - self.counted_from  # the end of the cache and the supernet
        left = "?"
        if self.done_before is not None and new:
            until_timeout = max(0.0, (self.search.timeout or math.inf) - elapsed)
            trainings = max(0, self.search.trials - done) + confirmations
            left = format_duration(min(until_timeout, since / (new + 1) * trainings))
        return f"{format_duration(elapsed)}, ETA {left}"


def _format_cache(progress: CacheProgress) -> str:
    rate = progress.decoded / max(progress.seconds, 1e-3)
    left = (progress.total - progress.done) / rate if rate else None
    what = f"decoding {progress.split} images into the cache: {progress.done:,} of {progress.total:,}"
    return f"{what}, {rate:,.0f} images/s{_format_eta(left)}"


def _format_phase(progress: PhaseProgress) -> str:
    phase = describe_phase(progress.phase, progress.done, progress.total)
    return f"{phase}{_format_eta(progress.seconds_left)}"


def _format_eta(seconds: float | None) -> str:
    """Format the time that is left; nothing where all is done, or it is not known."""
    return f", ETA {format_duration(seconds)}" if seconds else ""


def _format_record(record: Record) -> str:
    shape = f"depth {record.model.backbone.depth} width {record.model.backbone.embed_dim}" if record.model else ""
    macs = f"{short_count(record.macs)} MACs" if record.macs else ""
    rungs = " ".join(f"@{rung.steps} {rung}" for rung in record.rungs[-1:])
    name = record.number if not record.seed else f"{record.number} seed {record.seed}"
    return "  ".join(part for part in (f"{name:>8}", shape, macs, rungs, str(record.state), record.reason) if part)
