"""What no fault may cause, measured after each test of tests/faults: see `Harm`.

The measurement is the same for every test and reads files and processes, not what the test asserted. To measure other
tests, load it as a plugin: pytest -p tests.faults.invariants tests/nas/test_supervisor.py.
"""

import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from t2tbuild import load_search_spec
from t2tbuild.errors import T2TBuildError
from tests.command import ENDED
from tests.database_file import open_database_file
from tests.nas import postgresql

SECRET = "hush-hush"
"""The password of every database of the tests."""
MARK = "ran"
"""Code of strangers in a test writes a file of this name."""
HARM, ROUNDS = "harm", "rounds"
"""The names of a test's properties."""
GRACE = 5.0
"""Seconds that processes of a test may take to end after it."""
EXIT_CODES = (0, 1, 2, 128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGKILL)
"""Those of t2tbuild, and that of a process that a test kills."""
FINISHED = ("completed", "pruned", "failed")


@dataclass(frozen=True)
class Harm:
    """Counts of what went wrong: each must be 0, or None where it was not measured.

    Attributes:
        lost: planned candidates that a complete search has no result of.
        duplicated: trainings with the model and the seed of another one in the report of a search.
        left_running: trials of a complete search that its database has as running or waiting: its study.db, or a
            PostgreSQL database that the test made.
        processes: child processes that outlive the test, zombies included.
        code_run: files that only code of strangers writes.
        secrets: files with a password of a database.
        exit_codes: commands that ended with a code that is not documented (t2tbuild/errors.py), such as by a crash.
    """

    lost: int | None = None
    duplicated: int | None = None
    left_running: int | None = None
    processes: int | None = None
    code_run: int | None = None
    secrets: int | None = None
    exit_codes: int | None = None

    def __add__(self, other: "Harm") -> "Harm":
        return Harm(*map(add, astuple(self), astuple(other)))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(astuple(self))


def add(one: int | None, more: int | None) -> int | None:
    """Return the sum of two counts, of which each may not have been measured."""
    return one if more is None else more if one is None else one + more


def measure_harm(folder: Path, before: Collection[int], codes: Collection[int], databases: Sequence[str] = ()) -> Harm:
    """Measure a test by the files below its folder, its processes, its databases, and the exit codes of its commands.

    `before` are the processes that it found, `databases` the URLs of those that it made on a server.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    harm = Harm(
        processes=end_processes(folder, before),
        code_run=sum(path.name == MARK for path in files),
        secrets=sum(SECRET.encode() in path.read_bytes() for path in files if path.stat().st_size < 50_000_000),
        exit_codes=sum(code not in EXIT_CODES for code in codes) if codes else None,
    )
    for report in (path for path in files if path.name == "report.json"):
        harm += measure_search(report.parent, databases)
    return harm


def measure_search(run: Path, databases: Sequence[str] = ()) -> Harm:
    """Measure a search by its report.json, and one that is complete by its database."""
    try:
        report: dict[str, Any] = json.loads((run / "report.json").read_text())
        candidates, outcome = report["candidates"], report["outcome"]
        search = load_search_spec(run / "spec.yaml").search
    except (ValueError, TypeError, KeyError, T2TBuildError):  # damaged on purpose, or the report of something else
        return Harm()
    trained = [one for one in (*candidates, *report["reference_runs"]) if one["rungs"]]
    twice = len(trained) - len({(one["key"], one["seed"], one["full"]) for one in trained})
    if outcome != "complete":
        return Harm(duplicated=twice)
    missing = search.trials - sum(one["state"] in FINISHED for one in candidates)
    if (run / "study.db").is_file():
        left = unfinished_trials(run / "study.db")
    else:
        left = None
        for url in databases:
            left = add(left, unfinished_trials_on_server(url, search.name))
    return Harm(lost=max(0, missing), duplicated=twice, left_running=left)


def unfinished_trials(database: Path) -> int | None:
    """Return how many trials are running or waiting; None where the database is damaged."""
    try:
        with open_database_file(database, "ro") as opened:
            rows = opened.execute("select count(*) from trials where state in ('RUNNING', 'WAITING')")
            return int(rows.fetchone()[0])
    except sqlite3.DatabaseError:
        return None


UNFINISHED = """
select count(trials.trial_id) from studies left join trials
on trials.study_id = studies.study_id and trials.state::text in ('RUNNING', 'WAITING')
where studies.study_name in (%s, %s) having count(distinct studies.study_id) > 0
"""


def unfinished_trials_on_server(url: str, name: str) -> int | None:
    """Return how many trials of a search are running or waiting; None where the database does not have the search."""
    with psycopg.connect(url, connect_timeout=10) as connection:
        try:
            found = connection.execute(UNFINISHED, (name, f"{name}.references")).fetchone()
        except psycopg.errors.UndefinedTable:
            return None
    return None if found is None else int(found[0])


@dataclass(frozen=True)
class Process:
    """A process of the machine."""

    parent: int
    command: str


def list_processes() -> dict[int, Process]:
    """Return the processes of the machine by their numbers."""
    found: dict[int, Process] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        found[int(folder.name)] = Process(parent, command)
    return found


def processes_of(folder: Path, before: Collection[int]) -> set[int]:
    """Return the processes that a test started: below this one, or, where their parent was killed, with its folder.

    Not among them are those that were there before, and what these start, such as the pages of a browser. Only the
    helpers of multiprocessing, which are there before, start processes of tests.
    """
    processes = list_processes()

    def is_ours(number: int) -> bool:
        process = processes.get(number)
        if process is None or number == 1:
            return False
        if number == os.getpid():
            return True
        if number in before and not is_helper(process):
            return False
        return is_ours(process.parent)

    return {
        number
        for number, process in processes.items()
        if number not in {*before, os.getpid()}
        and not is_helper(process)
        and (is_ours(number) or str(folder) in process.command)
    }


def is_helper(process: Process) -> bool:
    """Whether a process is the fork server or the resource tracker of multiprocessing, which live as long as Python."""
    return any(name in process.command for name in ("multiprocessing.forkserver", "multiprocessing.resource_tracker"))


def end_processes(folder: Path, before: Collection[int]) -> int:
    """Return how many processes of a test do not end within GRACE. They are killed."""
    until = time.monotonic() + GRACE
    while (left := processes_of(folder, before)) and time.monotonic() < until:
        time.sleep(0.1)
    for number in left:
        with suppress(OSError):
            os.kill(number, signal.SIGKILL)
    return len(left)


def count_rounds(properties: Mapping[str, Any]) -> int:
    """Return how many faults a test caused, by its properties: one where it does not count them."""
    return int(properties.get(ROUNDS, 1))


@pytest.fixture(autouse=True)
def no_harm(tmp_path: Path, request: pytest.FixtureRequest, record_property: Any) -> Iterator[None]:
    """Measure the harm after a test, record it as a property of the test, and fail where there is any."""
    if sys.platform != "linux":
        yield
        return
    before, commands, databases = set(list_processes()), len(ENDED), len(postgresql.MADE)
    yield
    harm = measure_harm(tmp_path, before, ENDED[commands:], postgresql.MADE[databases:])
    record_property(HARM, list(astuple(harm)))
    assert not harm, (request.node.nodeid, harm)
    assert count_rounds(dict(request.node.user_properties)) > 0, f"{request.node.nodeid} caused no fault"
