"""A user's command that measures a file: real commands, their mistakes, and the consent that they need."""

import os
import signal
import time
from pathlib import Path

import pytest

from t2tbuild.bench import measure_command
from t2tbuild.bench.measure_command import (
    ALLOW_VARIABLE,
    allow_command,
    require_consent,
    run_command,
    worker_environment,
)
from t2tbuild.errors import InputError

FILE = Path("model.onnx")


@pytest.fixture(autouse=True)
def no_consent_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOW_VARIABLE, raising=False)


def script(folder: Path, text: str) -> str:
    path = folder / "measure it.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"'{path}' phone"


def measure(command: str, timeout: float = 30.0) -> float:
    with allow_command(command):
        return run_command(command, FILE, timeout=timeout)


@pytest.mark.parametrize("printed", ["12.5", "warming up\n12.5 ms\n", "1.25e1"])
def test_the_last_line_is_milliseconds(tmp_path: Path, printed: str) -> None:
    (tmp_path / "printed").write_text(printed)
    command = script(tmp_path, f'echo "$@" > {tmp_path}/given; cat {tmp_path}/printed')
    assert measure(command) == pytest.approx(0.0125)
    assert (tmp_path / "given").read_text() == "phone model.onnx\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo fast", r"phone printed 'fast'; its last line must be milliseconds, for example 12\.3"),
        ("echo -3", "printed '-3'"),
        ("echo 0", "printed '0'"),
        ("echo 1e999", "printed '1e999'"),
        ("true", "printed nothing"),
        ("echo 12; echo no device >&2; exit 3", "ended with exit code 3: no device"),
    ],
)
def test_a_mistake_of_the_command_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        measure(script(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"command: \./not_there\.sh cannot be started: No such file"):
        measure("./not_there.sh")


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    command = script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    started = time.monotonic()
    with pytest.raises(InputError, match=r"did not end within 0\.3 s; raise timeout"):
        measure(command, timeout=0.3)
    assert time.monotonic() - started < 20
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the child of the command still runs"
        time.sleep(0.02)


def test_what_the_command_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    """As adb's server, which keeps the output open."""
    started = time.monotonic()
    try:
        assert measure(script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/daemon; echo 3"), timeout=5) == 0.003
        assert time.monotonic() - started < 5
    finally:
        os.kill(int((tmp_path / "daemon").read_text()), signal.SIGKILL)


def test_the_end_after_a_timeout_is_not_that_of_a_daemon(tmp_path: Path) -> None:
    """A daemon in a session of its own survives the command that is killed."""
    command = script(tmp_path, f"setsid sleep 60 & echo $! > {tmp_path}/daemon; sleep 60")
    started = time.monotonic()
    try:
        with pytest.raises(InputError, match=r"did not end within 0\.3 s"):
            measure(command, timeout=0.3)
        assert time.monotonic() - started < 20
    finally:
        os.kill(int((tmp_path / "daemon").read_text()), signal.SIGKILL)


def test_the_command_does_not_get_the_password_of_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2TBUILD_STORAGE", "postgresql://me:hush@host/db")
    monkeypatch.setenv("PHONE", "pixel")
    measure(script(tmp_path, f"env > {tmp_path}/env; echo 3"))
    given = (tmp_path / "env").read_text()
    assert "PHONE=pixel" in given
    assert "hush" not in given


def test_an_interrupt_ends_the_command(tmp_path: Path) -> None:
    command = script(tmp_path, "sleep 60")

    def check() -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with allow_command(command), pytest.raises(KeyboardInterrupt):
        run_command(command, FILE, timeout=30, check=check)
    assert time.monotonic() - started < 20


def test_no_command_runs_without_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = script(tmp_path, f"touch {tmp_path}/ran; echo 1")
    hint = "is code, and this one needs your consent: .*phone; read it, then add --allow-command"
    with pytest.raises(InputError, match=hint):
        run_command(command, FILE, timeout=30)
    with allow_command("another"), pytest.raises(InputError, match=hint):
        run_command(command, FILE, timeout=30)
    with allow_command(None), pytest.raises(InputError, match=hint):
        require_consent(command)
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv(ALLOW_VARIABLE, "1")
    assert run_command(command, FILE, timeout=30) == pytest.approx(0.001)


def test_workers_may_run_the_command_of_their_parent_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_environment() == {}
    with allow_command("./mine.sh"):
        given = worker_environment()
    assert list(given) == [ALLOW_VARIABLE]
    assert "1" not in given.values()
    monkeypatch.setattr(os, "environ", os.environ | given)
    measure_command.require_consent("./mine.sh")
    with pytest.raises(InputError):
        measure_command.require_consent("./yours.sh")
