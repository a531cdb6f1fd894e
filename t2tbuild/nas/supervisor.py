"""Several worker processes of one search: start them, restart those that die, and end them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from t2tbuild.bench import measure_command
from t2tbuild.errors import InputError, SearchError, StorageError
from t2tbuild.nas.exit_code import NO_STORAGE
from t2tbuild.nas.store.url import VARIABLE
from t2tbuild.spec.extension import consent
from t2tbuild.training.device_setting import device_setting
from t2tbuild.training.signals import Interrupt

POLL_SECONDS = 1.0
GRACE_SECONDS = 60.0  # workers that have not ended this long after the deadline, at least, are terminated
SHUTDOWN_SECONDS = 60.0  # workers that have not ended this long after SIGTERM are killed
MAX_FAILED_STARTS = 3  # failed starts in a row after which a worker is not restarted
MAX_KILLED_STARTS = 30  # the same for one that is killed, for example where memory is short

OnPoll = Callable[[], bool]
"""It returns whether a training of the base has ended, before which no deadline ends a search."""


@dataclass
class _WorkerProcess:
    """A worker by its index: its current process, and how often in a row it failed to start."""

    index: int
    running: subprocess.Popen[bytes]
    log_start: int  # the size of its log before the process started
    failed_starts: int = 0
    done: bool = False


def default_workers(device: str | None = None) -> int:
    """Return the number of GPUs, or on the CPU the number of its cores, eight at most. One for a single GPU."""
    device = device_setting(device)
    if device not in (None, "cpu", "cuda"):
        return 1
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.device_count()
    return max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


def grace_of(timeout: float | None) -> float:
    """Return how long after the deadline of a search a worker is terminated: a tenth of the timeout, or a minute.

    An evaluation that is only slow should end before, as its result is lost.
    """
    return max(GRACE_SECONDS, (timeout or 0.0) / 10)


def supervise(
    run: Path,
    url: str,
    workers: int,
    deadline: float,
    interrupt: Interrupt,
    on_poll: OnPoll,
    grace: float = GRACE_SECONDS,
) -> None:
    """Run `workers` processes on the search in `run` until all are done, and restart those that die.

    `deadline` is a time.monotonic(): workers end by themselves between two steps of a training, and one that hangs in a
    step is terminated after `grace` seconds. `on_poll` is called every second. An interrupt ends all workers. Raises
    SearchError, with the last line of its log, when a worker dies MAX_FAILED_STARTS times in a row before it trains
    anything, and at once InputError when its input is wrong, StorageError when it cannot store anything.
    """
    with _running_workers(run, url, workers, deadline) as processes:
        while not all(process.done for process in processes):
            base_has_ended = on_poll()
            if interrupt:
                raise interrupt.exception()
            if base_has_ended and time.monotonic() > deadline + grace:
                break
            for process in processes:
                _restart_if_dead(process, run, url, workers, deadline)
            time.sleep(POLL_SECONDS)
    on_poll()


@contextmanager
def _running_workers(run: Path, url: str, workers: int, deadline: float) -> Iterator[Sequence[_WorkerProcess]]:
    """Start the processes, and end them with this context."""
    processes: list[_WorkerProcess] = []
    try:
        for index in range(workers):  # one by one, so that an error ends those already started
            log_start = _log_size(run, index)
            processes += [_WorkerProcess(index, _start_worker(run, url, index, workers, deadline), log_start)]
        yield processes
    finally:
        terminate([process.running for process in processes])


def _restart_if_dead(process: _WorkerProcess, run: Path, url: str, workers: int, deadline: float) -> None:
    """Restart a worker that died. One that ended with exit code 0 is done."""
    code = process.running.poll()
    if code is None or process.done:
        return
    if code == 0:
        process.done = True
        return
    if code == InputError.exit_code:  # another start cannot help
        raise InputError(f"worker {process.index} ended: {last_log_line(run, process.index)}")
    if code == NO_STORAGE:
        reason = last_log_line(run, process.index).partition("; continue with")[0]
        if not reason.startswith("error: "):  # the full disk has the log as well
            reason = "the storage or the disk refuses a write"
        message = f"worker {process.index} ended: {reason}; continue with: t2tbuild search resume {run}"
        raise StorageError(message)
    process.failed_starts = 0 if _has_trained(run, process) else process.failed_starts + 1
    if process.failed_starts >= (MAX_FAILED_STARTS if code > 0 else MAX_KILLED_STARTS):
        raise SearchError(f"worker {process.index} failed to start: {last_log_line(run, process.index)}")
    process.log_start = _log_size(run, process.index)
    process.running = _start_worker(run, url, process.index, workers, deadline)


def start_of_training(pid: int) -> str:
    """Return how the line of a worker's log begins when the process starts a training.

    A candidate that ends its process again and again must not count as a worker that fails to start.
    """
    return f"process {pid} trains "


def _has_trained(run: Path, process: _WorkerProcess) -> bool:
    """Whether the current process of a worker has started a training, by its log."""
    with log_path(run, process.index).open("rb") as log:
        log.seek(process.log_start)  # a process of an earlier session may have had the same number
        return start_of_training(process.running.pid).encode() in log.read()


def _log_size(run: Path, index: int) -> int:
    """Return the size of a worker's log in bytes, 0 where there is none."""
    path = log_path(run, index)
    return path.stat().st_size if path.exists() else 0


def log_path(run: Path, index: int) -> Path:
    """Return the file of a worker's output."""
    return run / "workers" / f"{index}.log"


def _start_worker(run: Path, url: str, index: int, workers: int, deadline: float) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "t2tbuild.nas.worker_process",
        str(run),
        str(workers),
        repr(deadline),
        str(os.getpid()),
    ]
    # a password must not appear in the command line
    return start_process(command, log_path(run, index), index, workers, {VARIABLE: url})


def start_process(
    command: Sequence[str],
    log: Path,
    index: int,
    workers: int,
    environment: Mapping[str, str] | None = None,
    *,
    pipes: bool = False,
) -> subprocess.Popen[bytes]:
    """Start one of `workers` processes: with one of the GPUs, in turn, or an equal share of the CPU cores.

    Its output is added to a log. With `pipes`, its stdin and stdout are pipes.
    """
    env = (
        dict(os.environ) | consent.worker_environment() | measure_command.worker_environment() | dict(environment or {})
    )
    device = device_setting()
    if device in (None, "cuda") and torch.cuda.is_available():
        devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = devices.split(",") if devices else [str(one) for one in range(torch.cuda.device_count())]
        env["CUDA_VISIBLE_DEVICES"] = names[index % len(names)]
    elif device is None or not device.startswith("cuda"):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        env["OMP_NUM_THREADS"] = str(max(1, cores // workers))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        return subprocess.Popen(  # noqa: S603  # our own modules
            command,
            env=env,
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else stream,
            stderr=stream,
            start_new_session=True,
        )


def terminate(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes, and wait for their end. Those that do not end in time, or before a second Ctrl-C, are killed."""
    limit = time.monotonic() + SHUTDOWN_SECONDS
    try:
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, limit - time.monotonic()))
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def last_log_line(run: Path, index: int) -> str:
    """Return the last line of a worker's output."""
    lines = log_path(run, index).read_text(errors="replace").strip().splitlines()
    return f"{lines[-1]} (full log: {log_path(run, index)})" if lines else f"see {log_path(run, index)}"
