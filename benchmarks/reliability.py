"""Count faults and the harm they do: python benchmarks/reliability.py [--long 20] [--markdown] [-- pytest options].

Runs every test that docs/reliability.md names, the nightly ones too, and measures after each of them what no fault may
cause (tests/faults/invariants.py). With `--long N`, also N rounds of each benchmark that kills and stops real searches
and trainings. Prints each test with its rounds, and the totals. A round is one fault: a case of a test, a command of a
case that runs several, a killed process. A cell is "-" where nothing of it was measured. The exit code is 1 where a
promise was broken.

Without --long about ten minutes on two cores; each long round about 10 to 40 seconds.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

import kills
import search_faults

from tests.faults import invariants
from tests.faults.invariants import HARM, Harm, add, count_rounds
from tests.faults.page import PAGE, named_tests
from tests.nas.postgresql import installed, server

COUNTS = [one.name for one in fields(Harm)]


@dataclass
class Row:
    """The counts of a test or a benchmark. `broken` counts failed tests, and is None for a benchmark."""

    rounds: int = 0
    broken: int | None = None
    skipped: int = 0
    harm: Harm = field(default_factory=Harm)

    def __add__(self, other: "Row") -> "Row":
        return Row(
            self.rounds + other.rounds,
            add(self.broken, other.broken),
            self.skipped + other.skipped,
            self.harm + other.harm,
        )


class Counter:
    """A plugin of pytest that counts rounds and harm by test."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("[")[0].removeprefix("tests/").removeprefix("faults/")
        row = self.rows.setdefault(name, Row())
        row.skipped += report.skipped
        row.broken = add(row.broken, int(report.failed))
        if report.skipped:
            self.skipped.add(report.nodeid)
        if report.when != "teardown":
            return
        properties = dict(report.user_properties)
        if HARM in properties and report.nodeid not in self.skipped:
            row.rounds += count_rounds(properties)
            row.harm += Harm(*properties[HARM])


def run_tests(tests: Sequence[str], options: Sequence[str]) -> dict[str, Row]:
    counter = Counter()
    plugin = invariants.__name__
    given = ["-m", "", "-p", plugin, "-W", "ignore::pytest.PytestAssertRewriteWarning", "-q", "--no-header"]
    code = pytest.main([*given, *options, *tests], plugins=[counter])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.exit(f"pytest ended with {code}")
    return counter.rows


def run_long(rounds: int) -> dict[str, Row]:
    """Run each benchmark of faults for so many rounds."""
    found: dict[str, Row] = {}
    if installed():
        for kind in search_faults.PROCESSES:
            with tempfile.TemporaryDirectory(prefix="faults_") as folder, server() as postgresql:
                counts = search_faults.break_searches(kind, rounds, Path(folder), postgresql)
            lost = counts["planned, but not measured"] + counts["without a result"]
            harm = Harm(lost=lost, duplicated=counts["measured twice"], left_running=counts["running or waiting"])
            harm += Harm(exit_codes=counts["exit codes other than 0"])
            found[f"benchmarks/search_faults.py {kind}"] = Row(counts["rounds"], harm=harm)
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        kills.make_images(Path(folder) / "images")
        for ranks in (1, 2):
            met = kills.measure(Path(folder), 2, ranks, rounds, Console(stderr=True, width=160))
            harm = Harm(lost=met.other_bits, exit_codes=met.exit_codes)
            found[f"benchmarks/kills.py --workers 2 --ranks {ranks}"] = Row(met.kills, harm=harm)
    return found


def cells(name: str, row: Row) -> list[str]:
    counts = (row.rounds, row.broken, *(getattr(row.harm, count) for count in COUNTS))
    return [name, *("-" if count is None else str(count) for count in counts)]


def show(rows: dict[str, Row], *, markdown: bool) -> None:
    """Print the table, and the totals as its last row."""
    total = sum(rows.values(), Row())
    head = ["test", "rounds", "failed", *(count.replace("_", " ") for count in COUNTS)]
    lines = [cells(name, row) for name, row in rows.items() if row.rounds or row.broken]
    lines.append(cells(f"{len(lines)} faults", total))
    skipped = [f"{name} ({row.skipped})" for name, row in rows.items() if row.skipped]
    if markdown:
        print(markdown_table(head, lines))
    else:
        table = Table(*head)
        for line in lines:
            table.add_row(*line)
        Console(width=190).print(table)
    if skipped:
        print(f"skipped: {', '.join(skipped)}")


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", type=int, default=0, help="rounds of each benchmark of faults")
    parser.add_argument("--markdown", action="store_true")
    given, options = parser.parse_known_args()
    rows = run_tests(named_tests(PAGE.read_text(encoding="utf-8")), [one for one in options if one != "--"])
    if given.long:
        rows |= run_long(given.long)
    show(rows, markdown=given.markdown)
    total = sum(rows.values(), Row())
    sys.exit(bool(total.broken or total.harm))


if __name__ == "__main__":
    main()
