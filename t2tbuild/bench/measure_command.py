"""A command of the user that measures an ONNX file on another device, such as a phone.

A command is code. A spec is data and may come from a stranger, so its command runs only with consent: from the command
line, from the argument of a Python function, or from an environment variable; see `allow_command`. Worker processes get
the SHA-256 of the one command that their parent may run.
"""

import contextlib
import hashlib
import math
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from t2tbuild.errors import InputError

ALLOW_OPTION = "--allow-command"
"""Option of the commands that search: allows the command of the spec's latency limit."""
ALLOW_VARIABLE = "T2TBUILD_ALLOW_COMMAND"
"""Environment variable: 1 allows every command, a SHA-256 that of one."""
STORAGE_VARIABLE = "T2TBUILD_STORAGE"
POLL_SECONDS = 0.05
READ_BYTES = 1 << 16  # of the end of a command's output
SHOWN = 200  # characters of a command's output in a message

_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)(?: ?ms)?")
_granted: ContextVar[str] = ContextVar("granted_command", default="")


@contextlib.contextmanager
def allow_command(command: str | None) -> Iterator[None]:
    """Allow a command in this context; None allows nothing more."""
    token = _granted.set(_sha256(command) if command is not None else _granted.get())
    try:
        yield
    finally:
        _granted.reset(token)


def require_consent(command: str) -> None:
    """Raise InputError unless a command may run."""
    found = os.environ.get(ALLOW_VARIABLE, "")
    if found != "1" and _sha256(command) not in (_granted.get(), found):
        message = f"search.budget.latency.command is code, and this one needs your consent: {command}"
        raise InputError(f"{message}; read it, then add {ALLOW_OPTION}, in Python allow_command=True")


def worker_environment() -> dict[str, str]:
    """Return the variables of worker processes, which may run the command that this process may run, and no other."""
    return {ALLOW_VARIABLE: _granted.get()} if _granted.get() else {}


def run_command(command: str, file: Path, *, timeout: float, check: Callable[[], None] = lambda: None) -> float:
    """Return the seconds that a command measures for a file: it prints milliseconds on its last line.

    `check` is called while it runs and may raise, which ends it. Raises InputError without consent, and where the
    command cannot be started, ends with another exit code than 0, takes longer than `timeout` seconds or prints no
    number.
    """
    require_consent(command)
    words = [*shlex.split(command), str(file)]
    # A daemon that it starts, such as adb's server, may hold its output open after its end; files need no reader.
    with TemporaryFile() as printed, TemporaryFile() as errors:
        try:
            process = subprocess.Popen(  # noqa: S603  # the user's own, with consent
                words,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=errors,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise _error(command, f"cannot be started: {error.strerror or error}") from None
        if not _wait(process, timeout, check):
            raise _error(command, f"did not end within {timeout:g} s; raise timeout, or measure fewer images")
        output, reasons = _read(printed), _read(errors)
    if process.returncode:
        raise _error(command, f"ended with exit code {process.returncode}{_shown(reasons or output)}")
    return _parse(command, output)


def _environment() -> dict[str, str]:
    """Return the environment of a command: without the address of the search's database, which has a password."""
    return {name: value for name, value in os.environ.items() if name != STORAGE_VARIABLE}


def _wait(process: subprocess.Popen[bytes], timeout: float, check: Callable[[], None]) -> bool:
    """Wait for the end of a process; kill it after `timeout`, and return whether it ended by itself."""
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() <= deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
                return True
            check()
    except BaseException:
        _kill(process)
        raise
    _kill(process)
    return False


def _read(file: IO[bytes]) -> str:
    """Return the end of what was written to a file."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - READ_BYTES))
    return file.read().decode(errors="replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and those that it started, such as ssh or adb."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _parse(command: str, printed: str) -> float:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    match = _NUMBER.fullmatch(lines[-1]) if lines else None
    seconds = float(match[1]) / 1000 if match else math.nan
    if not 0 < seconds < math.inf:
        found = f"printed {lines[-1]!r:.{SHOWN}}" if lines else "printed nothing"
        raise _error(command, f"{found}; its last line must be milliseconds, for example 12.3")
    return seconds


def _shown(text: str) -> str:
    """Return the last line of a text, to end a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1]:.{SHOWN}}" if lines else ""


def _error(command: str, message: str) -> InputError:
    return InputError(f"search.budget.latency.command: {command} {message}")


def _sha256(command: str) -> str:
    return hashlib.sha256(command.encode()).hexdigest()
