"""Searches of real processes with an evaluator of `evaluators.py`, and what must be left of them after a fault."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from t2tbuild.nas import supervisor
from t2tbuild.nas.existing_run import reopen_store
from t2tbuild.nas.record import Record, State
from t2tbuild.nas.store.url import VARIABLE
from tests.command import FORKS
from tests.faults import evaluators
from tests.nas.conftest import tiny_search

TRIALS = 6
SETTINGS = ["target=data", "sampler=random", "patience=null", "zero_cost.names=[]", "proxy.metric=accuracy"]
CLOCK = "T2TBUILD_FAULTS_CLOCK"
"""The variable that lets the clock of a worker jump."""


def command(folder: Path, evaluator: str, *overrides: str, run: Path | None = None, workers: int = 1) -> list[str]:
    """The arguments of a search in a folder. Its processes start in this folder, where they find the evaluator."""
    tiny_search(folder)
    settings = [*SETTINGS, f"trials={TRIALS}", f"evaluator={evaluators.__name__}:{evaluator}", *overrides]
    fields = [f"search.{one}" for one in settings]
    return [
        "search",
        str(folder / "tiny.yaml"),
        *fields,
        "--out",
        str(run or folder / "run"),
        "--workers",
        str(workers),
        "--json",
    ]


def resume(run: Path, workers: int = 1) -> list[str]:
    return ["search", "resume", str(run), "--workers", str(workers), "--json"]


def calls(folder: Path) -> Counter[tuple[str, str, str]]:
    """How often each training was evaluated at each rung: by key, seed and steps."""
    lines = (folder / "calls").read_text().splitlines()
    return Counter((key, seed, steps) for key, seed, steps in map(str.split, lines))


def records_of(run: Path, storage: str | None = None) -> tuple[list[Record], list[Record]]:
    """The candidates and the reference runs of a search, none of which is running."""
    *_, opened = reopen_store(run, storage)
    with opened as store:
        found = store.snapshot()
        assert not found.running
    return list(found.records), list(found.reference_runs)


def require_whole(run: Path, failed: int = 0, storage: str | None = None, trials: int = TRIALS) -> None:
    """Check that every planned training is there once, with its result, and that none is running or waiting."""
    candidates, reference_runs = records_of(run, storage)
    assert len({record.key for record in candidates}) == len(candidates) == trials
    assert sum(record.state is State.FAILED for record in candidates) == failed
    identities = [(record.key, record.seed, record.full) for record in reference_runs]
    assert len(set(identities)) == len(identities) >= 2
    ended = [record for record in (*candidates, *reference_runs) if record.state is not State.FAILED]
    assert all(record.rungs and record.state in (State.COMPLETED, State.PRUNED) for record in ended)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def require_no_process(run: Path) -> None:
    """Check that no process has the name of a run in its command line, as a worker has."""
    left = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(run).encode() in arguments and is_alive(int(path.parent.name)):
            left.append(arguments)
    assert not left


def one_error(text: str) -> str:
    """The only error of an output, on one line."""
    assert "Traceback" not in text
    (found,) = [line for line in text.splitlines() if line.startswith("error: ")]
    return found


def jump() -> None:
    """Let the clock of this process jump by up to a day at each call."""
    time.time = jumping(time.time)  # type: ignore[assignment]


def jumping(now: Any) -> Any:
    chance = random.Random(0)
    return lambda: now() + 86_400 * chance.uniform(-1, 1)


class ForkedWorker:
    """A worker that starts at once, with the part of the interface of Popen that the supervisor uses."""

    def __init__(self, run: Path, url: str, index: int, workers: int, deadline: float) -> None:
        log = supervisor.log_path(run, index)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {VARIABLE: url, "OMP_NUM_THREADS": "1"}
        arguments = [str(run), str(workers), repr(deadline)]
        self._process = FORKS.Process(target=_work, args=(arguments, str(Path.cwd()), environment, str(log)))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _work(arguments: list[str], cwd: str, environment: dict[str, str], log: str) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(stream, descriptor)
    evaluators.be_quick()
    if CLOCK in environment:
        jump()
    sys.argv = ["worker", *arguments, str(os.getppid())]
    from t2tbuild.nas.worker_process import main

    sys.exit(main())


def fork_workers(patch: pytest.MonkeyPatch) -> list[ForkedWorker]:
    """Let the supervisor of this process fork its workers, and wait little; returns those that it starts."""
    started: list[ForkedWorker] = []

    def start(*arguments: Any) -> ForkedWorker:
        started.append(ForkedWorker(*arguments))
        return started[-1]

    patch.setattr(supervisor, "_start_worker", start)
    patch.setattr(supervisor, "POLL_SECONDS", 0.1)
    patch.setattr(supervisor, "GRACE_SECONDS", 1.0)
    patch.setattr(supervisor, "SHUTDOWN_SECONDS", 2.0)
    return started
