"""Workers that are killed repeatedly: every planned candidate is trained once, and no trial keeps running.

Real processes on a real SQLite file and a real PostgreSQL server.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from t2tbuild.errors import InputError, SearchError
from t2tbuild.nas import supervisor, worker_process
from t2tbuild.nas.existing_run import reopen_store
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.store.url import VARIABLE
from t2tbuild.training.signals import Interrupt
from tests.command import Running, run_t2tbuild, start_t2tbuild
from tests.database_file import open_database_file
from tests.nas.conftest import states, tiny_search
from tests.nas.postgresql import Server

pytestmark = pytest.mark.slow

PLANNED = 6


def command(folder: Path, workers: int, *overrides: str) -> list[str]:
    tiny_search(folder)
    spec, run = str(folder / "tiny.yaml"), str(folder / "run")
    more = [
        f"search.trials={PLANNED}",
        "search.heartbeat=2",
        "search.retries=20",
        "search.proxy.rungs=[5, 40]",
        *overrides,
    ]
    return ["search", spec, *more, "--out", run, "--workers", str(workers), "--json"]


def workers_of(parent: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def kill_now_and_then(process: Running, kills: int, seconds: float) -> Iterator[int]:
    """SIGKILL a random worker every few seconds, and return how many were killed."""
    chance, done = random.Random(0), 0
    while process.poll() is None and done < kills:
        time.sleep(seconds * chance.uniform(0.5, 1.5))
        for worker in chance.sample(found := workers_of(process.pid), min(1, len(found))):
            os.kill(worker, signal.SIGKILL)
            done += 1
        yield done


def kill_one_at_work(process: Running, run: Path) -> None:
    """SIGKILL a worker in the middle of a training."""
    until = time.monotonic() + 120
    while not (found := _at_work(run)):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(found[0], signal.SIGKILL)


def require_whole(folder: Path, message: str) -> None:
    """Check that all planned candidates are trained once, and that no trial is running."""
    report = json.loads(message)
    assert report["outcome"] == "complete"
    assert (report["counts"]["trained"], report["counts"]["failed"]) == (PLANNED, 0)
    *_, opened = reopen_store(folder / "run", None)
    with opened as store:
        _require_whole(store)


def _require_whole(store: Store) -> None:
    found = store.snapshot()
    assert not found.running
    assert not any(found.waiting.values())
    records = store.records()
    assert len({record.key for record in records}) == len(records) == PLANNED
    reference_runs = store.reference_runs()
    assert len({(record.key, record.seed) for record in reference_runs}) == len(reference_runs)
    assert all(record.rungs for record in (*records, *reference_runs))


def test_a_killed_worker_and_an_interrupt_lose_nothing(tmp_path: Path) -> None:
    """The interrupt ends all processes, and the command that it names continues the search to its end."""
    arguments = command(tmp_path, 2)
    process = start_t2tbuild(*arguments)
    kill_one_at_work(process, tmp_path / "run")
    until = time.monotonic() + 60
    while not _count(tmp_path / "run", "trial_user_attributes where key = 'deaths'"):
        assert time.monotonic() < until
        time.sleep(0.05)
    workers = workers_of(process.pid)
    process.terminate()
    _, err = process.communicate(timeout=90)
    assert process.returncode == 143
    assert "continue with" in err
    assert "Traceback" not in err
    assert not any(map(_is_alive, workers))
    assert not _running(tmp_path / "run")
    done = run_t2tbuild("search", "resume", str(tmp_path / "run"), "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    require_whole(tmp_path, done.stdout)


@pytest.mark.nightly
def test_killed_workers_and_a_database_that_restarts(
    tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.database("killed")
    monkeypatch.setenv(VARIABLE, url)
    process = start_t2tbuild(*command(tmp_path, 2))
    for killed in kill_now_and_then(process, kills=1, seconds=10.0):
        if killed == 1:
            postgresql.stop()
            time.sleep(3)
            postgresql.start()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    require_whole(tmp_path, out)
    assert set(states(url.replace("postgresql", "postgresql+psycopg"))) <= {"COMPLETE", "PRUNED", "FAIL"}
    assert "hush-hush" not in out + err


@pytest.mark.nightly
def test_workers_end_with_the_command_that_started_them(tmp_path: Path) -> None:
    process = start_t2tbuild(*command(tmp_path, 2))
    until = time.monotonic() + 120
    while not _running(tmp_path / "run"):
        assert time.monotonic() < until
        time.sleep(0.1)
    workers = workers_of(process.pid)
    process.kill()
    process.communicate()
    until = time.monotonic() + 60
    while any(_is_alive(worker) for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.2)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _at_work(run: Path) -> list[int]:
    """Return the processes whose training has reached a rung, from which another can continue."""
    message = (
        "select value_json from trial_user_attributes join trials using (trial_id) "
        "where state = 'RUNNING' and key = 'record'"
    )
    try:
        with open_database_file(run / "study.db", "ro") as database:
            records = [json.loads(row[0]) for row in database.execute(message)]
    except sqlite3.OperationalError:
        return []
    return [int(record["worker"].rpartition(":")[2]) for record in records if record["worker"] and record["rungs"]]


def _running(run: Path) -> int:
    return _count(run, "trials where state = 'RUNNING'")


def _count(run: Path, rows: str) -> int:
    """Return the number of rows of the study, 0 where it is not there yet."""
    try:
        with open_database_file(run / "study.db", "ro") as database:
            return int(database.execute(f"select count(*) from {rows}").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_a_worker_with_wrong_input_is_reported_and_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The last line of the log is in the error."""
    (tmp_path / "spec.yaml").write_text("version: 1\nsearch: {base: nothing}\n")
    monkeypatch.setattr(sys, "argv", ["worker", str(tmp_path), "1", repr(time.monotonic() + 60), str(os.getppid())])
    code, message = worker_process.main(), capfd.readouterr().err
    assert code == InputError.exit_code
    assert message.startswith("error: ")
    starts = start_instead(monkeypatch, code, message)
    with pytest.raises(InputError, match=r"worker 0 ended: .*0\.log"):
        supervisor.supervise(tmp_path, "sqlite://", 1, time.monotonic() + 60, Interrupt(), lambda: False)
    assert starts == [0]


def start_instead(monkeypatch: pytest.MonkeyPatch, code: int, message: str) -> list[int]:
    """Let the supervisor start processes that log a message and end with an exit code; returns their indices."""
    starts: list[int] = []

    def start(run: Path, _url: str, index: int, _workers: int, _deadline: float) -> subprocess.Popen[bytes]:
        starts.append(index)
        supervisor.log_path(run, index).parent.mkdir(parents=True, exist_ok=True)
        supervisor.log_path(run, index).write_text(message)
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])

    monkeypatch.setattr(supervisor, "_start_worker", start)
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.05)
    return starts


def test_a_worker_that_fails_for_another_reason_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = start_instead(monkeypatch, 1, "no memory\n")
    with pytest.raises(SearchError, match="worker 0 failed to start: no memory"):
        supervisor.supervise(tmp_path, "sqlite://", 1, time.monotonic() + 60, Interrupt(), lambda: False)
    assert len(starts) == supervisor.MAX_FAILED_STARTS
