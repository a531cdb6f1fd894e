"""Evaluators that cause a fault in the process that calls them. Processes of a search import them by their names.

The environment names the folder of the files that processes share, and the call at which the fault happens. A fault of
a candidate happens while the folder has a file `fault`.
"""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

from t2tbuild import predict_cost
from t2tbuild.nas import evaluator, supervisor
from t2tbuild.nas.evaluator import Candidate
from t2tbuild.nas.store import retry

FOLDER, AT, PAUSE = "T2TBUILD_FAULTS", "T2TBUILD_FAULTS_AT", "T2TBUILD_FAULTS_PAUSE"


def be_quick() -> None:
    """Let this process of a search wait for a second where it would for a minute, and count costs in closed form."""
    retry.RETRY_SECONDS = supervisor.GRACE_SECONDS = supervisor.SHUTDOWN_SECONDS = 1.0
    evaluator.count_model = predict_cost  # type: ignore[assignment]


if FOLDER in os.environ:  # not the process of the tests
    be_quick()


def evaluate(candidate: Candidate, steps: int) -> float:
    """Return an accuracy by the width."""
    _count(candidate, steps)
    time.sleep(float(os.environ.get(PAUSE, "0")))
    return 0.5 + candidate.model.backbone.embed_dim / 1000 + steps / 10_000


def _folder() -> Path:
    return Path(os.environ[FOLDER])


def _count(candidate: Candidate, steps: int) -> int:
    """Add a line for a call, and return the number of calls so far, of all processes."""
    with (_folder() / "calls").open("a+") as calls:
        calls.write(f"{candidate.key} {candidate.seed} {steps}\n")
        calls.flush()
        calls.seek(0)
        return len(calls.readlines())


def _is_victim(candidate: Candidate) -> bool:
    """Whether the fault happens to this candidate: the first one that is evaluated after the base."""
    folder = _folder()
    if candidate.key == (folder / "calls").read_text().split()[0]:
        return False
    with contextlib.suppress(FileExistsError), (folder / "victim").open("x") as victim:
        victim.write(candidate.key)
    return (folder / "fault").exists() and (folder / "victim").read_text() == candidate.key


def exits(candidate: Candidate, steps: int) -> float:
    """End the process of the victim as a library may, with the code that Python has after an exception."""
    found = evaluate(candidate, steps)
    if _is_victim(candidate):
        os._exit(1)
    return found


def is_killed(candidate: Candidate, steps: int) -> float:
    """End the process of the victim as the kernel does where memory is short."""
    found = evaluate(candidate, steps)
    if _is_victim(candidate):
        os.kill(os.getpid(), signal.SIGKILL)
    return found


def sleeps(candidate: Candidate, steps: int) -> float:
    """Wait for ever with the victim; signals are handled."""
    found = evaluate(candidate, steps)
    while _is_victim(candidate):
        time.sleep(3600)
    return found


def blocks(candidate: Candidate, steps: int) -> float:
    """Call C code with the victim that never returns, and in which Python handles no signal and runs no thread."""
    found = evaluate(candidate, steps)
    if _is_victim(candidate):
        library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
        for _ in range(2):  # the second call waits for the first
            library.pthread_mutex_lock(mutex)
    return found


HEADROOM, TENSOR = 300_000_000, 2**24
"""Bytes that a process may still take where it exhausts its memory, and the elements of each tensor, of 4 bytes."""


def exhausts_memory(candidate: Candidate, steps: int) -> float:
    """Fill all memory that the process may have with tensors, as a model that is too large does. The limit stays."""
    found = evaluate(candidate, steps)
    if _is_victim(candidate):
        _exhaust(lambda: torch.ones(TENSOR))
    return found


def exhausts_memory_of_python(candidate: Candidate, steps: int) -> float:
    """Do the same with bytes of Python, which raises another error."""
    found = evaluate(candidate, steps)
    if _is_victim(candidate):
        _exhaust(lambda: b"\1" * 4 * TENSOR)
    return found


def _exhaust(allocate: Callable[[], object]) -> None:
    """Allocate until an allocation fails, and count in the file `taken` those that did not."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))
    taken = []
    while True:
        taken.append(allocate())
        (_folder() / "taken").write_text(f"{os.getpid()} {len(taken)}")


def fills_the_disk(candidate: Candidate, steps: int) -> float:
    """Fill the disk at one call, to the last byte."""
    if _count(candidate, steps) == int(os.environ.get(AT, "0")):
        fill(_folder() / "disk")
    return 0.5 + candidate.model.backbone.embed_dim / 1000


def fill(disk: Path) -> None:
    """Fill a disk. The file `filler` takes what is left of it."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        for size in (2**16, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(size))


def aborts_the_disk(candidate: Candidate, steps: int) -> float:
    """Make an ext4 disk read-only at one call, as the kernel does after an error of the device."""
    if _count(candidate, steps) == int(os.environ.get(AT, "0")):
        disk = _folder() / "disk"
        subprocess.run(["mount", "-o", "remount,abort", disk], check=False, capture_output=True)
        with contextlib.suppress(OSError):
            (disk / "probe").touch()
            raise AssertionError(f"{disk} can still be written")
    return 0.5 + candidate.model.backbone.embed_dim / 1000


def leaves_no_descriptors(candidate: Candidate, steps: int) -> float:
    """Let the process open no further file from one call on."""
    if _count(candidate, steps) == int(os.environ.get(AT, "0")):
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return 0.5 + candidate.model.backbone.embed_dim / 1000
