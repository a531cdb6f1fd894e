"""A command of the user that measures an ONNX file on another device, such as a phone.

A command is code. A spec is data and may come from a stranger, so its command runs only with consent: from the command
line, from the argument of a Python function, or from an environment variable; see `granting`. Worker processes get the
SHA-256 of the one command that their parent may run.
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

from t2tbuild.errors import InputError

ALLOW_OPTION = "--allow-command"
"""Option of the commands that search: allows the command of the spec's latency limit."""
ALLOW_VARIABLE = "T2TBUILD_ALLOW_COMMAND"
"""Environment variable: 1 allows every command, a SHA-256 that of one."""
POLL_SECONDS = 0.05
SHOWN = 200  # characters of a command's output in a message

_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)(?: ?ms)?")
_granted: ContextVar[str] = ContextVar("granted_command", default="")


@contextlib.contextmanager
def granting(command: str | None) -> Iterator[None]:
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
    try:
        process = subprocess.Popen(  # noqa: S603  # the user's own, with consent
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise _error(command, f"cannot be started: {error.strerror or error}") from None
    with process:
        try:
            printed, errors = _communicate(process, timeout, check)
        except BaseException:
            _kill(process)
            raise
    if printed is None:
        raise _error(command, f"did not end within {timeout:g} s; raise timeout, or measure fewer images")
    if process.returncode:
        raise _error(command, f"ended with exit code {process.returncode}{_shown(errors or printed)}")
    return _parse(command, printed)


def _communicate(process: subprocess.Popen[bytes], timeout: float, check: Callable[[], None]) -> tuple[str | None, str]:
    """Return the output and the errors of a process, None for the output of one that was killed after `timeout`."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            printed, errors = process.communicate(timeout=POLL_SECONDS)
            return printed.decode(errors="replace"), errors.decode(errors="replace")
        except subprocess.TimeoutExpired:
            check()
        if time.monotonic() > deadline:
            _kill(process)
            process.communicate()
            return None, ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and those that it started, such as ssh or adb."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


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
