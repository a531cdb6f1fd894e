"""Perform many tasks on members: here, or spread over processes. Each process has its share of the CPU or a GPU."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from t2tbuild.errors import SearchError
from t2tbuild.nas.supernet.evaluation import Measured, MemberEvaluator, Task
from t2tbuild.nas.supervisor import last_log_line, log_path, start_process, terminate

POLL_SECONDS = 0.5
MAX_DEATHS = 3
"""A task whose process dies so often ends the search."""

Check = Callable[[], None]


class Crew(Protocol):
    """Performs tasks."""

    def perform(self, tasks: Sequence[Task], check: Check) -> Iterator[tuple[int, Measured]]:
        """Yield the index and the result of each task, in the order in which they end.

        `check` is called now and then, and may raise.
        """
        ...


class Alone:
    """Performs tasks one by one in this process."""

    def __init__(self, evaluator: MemberEvaluator) -> None:
        self.evaluator = evaluator

    def perform(self, tasks: Sequence[Task], check: Check) -> Iterator[tuple[int, Measured]]:
        for index, task in enumerate(tasks):
            yield index, self.evaluator.perform(task, check)


class Processes:
    """Performs tasks in processes of a command, with logs in a run directory. One that dies is started again."""

    def __init__(self, command: Sequence[str], run: Path, workers: int) -> None:
        self.command, self.run, self.workers, self._stopped = command, run, workers, False
        self._starting = threading.Lock()  # no process starts while all are ended
        self._idle: SimpleQueue[int] = SimpleQueue()
        for index in range(workers):
            self._idle.put(index)
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def perform(self, tasks: Sequence[Task], check: Check) -> Iterator[tuple[int, Measured]]:
        executor = ThreadPoolExecutor(self.workers)  # a thread waits for each process
        try:
            pending: dict[Future[Measured], int] = {
                executor.submit(self._perform, task): index for index, task in enumerate(tasks)
            }
            while pending:
                check()
                done, _ = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=pending.__getitem__):
                    yield pending.pop(future), future.result()
        except BaseException:
            self.close()
            raise
        finally:
            executor.shutdown(cancel_futures=True)

    def _perform(self, task: Task) -> Measured:
        """Have a process that is idle perform a task, and again where it dies."""
        index = self._idle.get()
        try:
            for _ in range(MAX_DEATHS):
                if (found := self._ask(index, task)) is not None:
                    return found
            raise SearchError(f"worker {index} of the supernet ended: {last_log_line(self.run, index)}")
        finally:
            self._idle.put(index)

    def _ask(self, index: int, task: Task) -> Measured | None:
        """Return the answer of a process, which is started where there is none; None where it died."""
        process = self._running.get(index)
        if process is None or process.poll() is not None:
            process = self._start(index)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(task_to_line(task))
            process.stdin.flush()
            answer = process.stdout.readline()
        except (OSError, ValueError):
            answer = b""
        if not answer.endswith(b"\n"):
            process.wait()
            _close_pipes(process)
            return None
        return Measured(**json.loads(answer))

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        """Start a process. Raises SearchError where all were ended."""
        with self._starting:
            if self._stopped:
                raise SearchError("the workers of the supernet were stopped")
            log = log_path(self.run, index)
            process = self._running[index] = start_process(self.command, log, index, self.workers, pipes=True)
        return process

    def close(self) -> None:
        """End the processes. A training that is interrupted continues from its last rung."""
        with self._starting:
            self._stopped = True
            running = list(self._running.values())
        for process in running:
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()  # ends a process that waits for a task
        terminate(running)
        for process in running:
            _close_pipes(process)


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a process that has ended."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            assert pipe is not None
            pipe.close()


def task_to_line(task: Task) -> bytes:
    """Return a task as a line of JSON, for `task_from_line`."""
    training = None if task.training is None else vars(task.training)
    return json.dumps({"model": task.model.model_dump(mode="json"), "training": training}).encode() + b"\n"


@contextmanager
def make_crew(run: Path, workers: int, alone: Callable[[], MemberEvaluator]) -> Iterator[Crew]:
    """Give a crew of `workers` processes, or for one worker, this process."""
    if workers == 1:
        yield Alone(alone())
        return
    command = [sys.executable, "-m", "t2tbuild.nas.supernet.crew_process", str(run), str(os.getpid())]
    processes = Processes(command, run, workers)
    try:
        yield processes
    finally:
        processes.close()
