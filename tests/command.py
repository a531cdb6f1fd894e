"""Run the command line, or Python code, in a process of its own that starts at once.

The process is forked from a server that has torch and timm loaded, which takes a new one up to ten seconds. What a
command imports, and when, is tested in new processes elsewhere. Variables that a library reads at its import have no
effect.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ENDED: list[int] = []
"""The exit codes of all commands that were run here, in their order."""
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["t2tbuild.nas.run", "t2tbuild.report.search_page", "t2tbuild.training.loop", "optuna.importance"]
)


def _main(code: str | None, arguments: list[str], cwd: str, environment: dict[str, str], streams: list[str]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = ["t2tbuild", *arguments]
    if code is not None:
        exec(code, {"__name__": "__main__"})
        return
    from t2tbuild.cli import main

    main()


class Running:
    """A command that runs, with the part of the interface of subprocess.Popen that the tests use."""

    def __init__(
        self, arguments: Sequence[str], cwd: Path | None, environment: dict[str, str], code: str | None = None
    ) -> None:
        self.arguments = arguments
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        names = [str(stream) for stream in self._streams]
        variables = os.environ | {"COLUMNS": "100"} | environment
        self._process = FORKS.Process(
            target=_main, args=(code, list(arguments), str(cwd or Path.cwd()), variables, names)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal, None while the command runs."""
        return self._process.exitcode

    def wait_for(self, text: str, *, stream: str, seconds: float = 60) -> None:
        """Wait until "stdout" or "stderr" has a text."""
        path, until = self._streams[stream == "stderr"], time.monotonic() + seconds
        while not (path.exists() and text in path.read_text(encoding="utf-8")):
            if self.poll() is not None or time.monotonic() > until:
                self.kill()
                raise AssertionError(f"{text!r} did not appear in {seconds} s", self.communicate())
            time.sleep(0.05)

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # as subprocess does: the number of an ended process may be in use again
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, once, and return the output and the errors."""
        self._process.join(timeout)
        late = self._process.is_alive()
        if late:
            self.kill()
            self._process.join()
        with self._folder:
            out, err = (stream.read_text(encoding="utf-8") for stream in self._streams)
        ENDED.append(self._process.exitcode or 0)
        if late:
            raise subprocess.TimeoutExpired(self.arguments, timeout or 0.0, out, err)
        return out, err


def start_t2tbuild(*arguments: str, cwd: Path | None = None, **environment: str) -> Running:
    """Start `t2tbuild ARGUMENTS` in a folder."""
    return Running(arguments, cwd, environment)


def start_python(code: str, *arguments: str, cwd: Path | None = None) -> Running:
    """Start `python -c CODE ARGUMENTS` in a folder."""
    return Running(arguments, cwd, {}, code)


def run_t2tbuild(
    *arguments: str, cwd: Path | None = None, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `t2tbuild ARGUMENTS` in a folder and return its exit code and output, like subprocess.run."""
    running = start_t2tbuild(*arguments, cwd=cwd, **environment)
    out, err = running.communicate(timeout)
    assert running.returncode is not None
    return subprocess.CompletedProcess(arguments, running.returncode, out, err)
