"""Several workers of one search: a process per device, started, watched and ended by the command that began it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from t2tbuild.errors import SearchError
from t2tbuild.nas.storage_url import VARIABLE
from t2tbuild.training.signals import Interrupt

LOOK = 1.0  # seconds between looks at the workers
PATIENCE = 60.0  # seconds in which workers end after being asked to
QUICK = 20.0  # seconds; a worker that dies sooner after its start has got nowhere
DEATHS = 3  # such deaths in a row of one worker, after which it is not started again

Look = Callable[[], None]


@dataclass
class _Process:
    """A worker's place: its process, and how often it died before it got anywhere."""

    index: int
    running: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)
    quick_deaths: int = 0
    done: bool = False


def default_workers() -> int:
    """A worker for each GPU, or where there is none for each CPU core, eight at most."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


def supervise(run: Path, url: str, workers: int, deadline: float, interrupt: Interrupt, look: Look) -> None:
    """Let `workers` processes work on the search in `run` until they are done; a dead one is started again.

    `look` is called every second. Raises SearchError when a worker dies again and again at its start, with what it said
    last, and passes an interrupt on to all.
    """
    with _started(run, url, workers, deadline) as processes:
        while not all(process.done for process in processes):
            look()
            if interrupt:
                raise interrupt.error()
            for process in processes:
                _tend(process, run, url, workers, deadline)
            time.sleep(LOOK)
    look()


@contextmanager
def _started(run: Path, url: str, workers: int, deadline: float) -> Iterator[Sequence[_Process]]:
    """The processes; none of them outlives this context."""
    processes: list[_Process] = []
    try:
        for index in range(workers):  # one by one, so that those that were started are ended
            processes += [_Process(index, _start(run, url, index, workers, deadline))]
        yield processes
    finally:
        _end([process.running for process in processes])


def _tend(process: _Process, run: Path, url: str, workers: int, deadline: float) -> None:
    """Start a worker again that died; one that ended by itself is done."""
    code = process.running.poll()
    if code is None or process.done:
        return
    if code == 0:
        process.done = True
        return
    process.quick_deaths = process.quick_deaths + 1 if time.monotonic() - process.started < QUICK else 0
    if process.quick_deaths >= DEATHS and code > 0:
        raise SearchError(f"worker {process.index} cannot work: {_last_words(run, process.index)}")
    process.running = _start(run, url, process.index, workers, deadline)
    process.started = time.monotonic()


def log_of(run: Path, index: int) -> Path:
    """Where a worker's stderr goes."""
    return run / "workers" / f"{index}.log"


def _start(run: Path, url: str, index: int, workers: int, deadline: float) -> subprocess.Popen[bytes]:
    env = dict(os.environ) | {VARIABLE: url}  # a password belongs in no command line
    if torch.cuda.is_available():
        devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = devices.split(",") if devices else [str(one) for one in range(torch.cuda.device_count())]
        env["CUDA_VISIBLE_DEVICES"] = names[index % len(names)]
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        env["OMP_NUM_THREADS"] = str(max(1, cores // workers))
    log = log_of(run, index)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "t2tbuild.nas.worker_process",
        str(run),
        str(workers),
        repr(deadline),
        str(os.getpid()),
    ]
    with log.open("ab") as stream:
        return subprocess.Popen(  # noqa: S603  # ourselves
            command, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    limit = time.monotonic() + PATIENCE
    for process in running:
        try:
            process.wait(max(0.1, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_words(run: Path, index: int) -> str:
    lines = log_of(run, index).read_text(errors="replace").strip().splitlines()
    return f"{lines[-1]} (all of it in {log_of(run, index)})" if lines else f"see {log_of(run, index)}"
