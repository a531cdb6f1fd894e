"""The identity of a worker's process, by which other workers on its machine see that it has ended."""

import functools
import os
import socket
from pathlib import Path

Process = list[str | int]
"""Host, its boot and process namespace, process number and start time. Plain data for the store."""


def worker_name() -> str:
    """Return the name of this process in records: host and process number."""
    return f"{socket.gethostname()}:{os.getpid()}"


def current_process() -> Process:
    """Return the identity of this process."""
    return [*_machine(), os.getpid(), _start_time(os.getpid())]


def has_ended(process: Process | None) -> bool:
    """Whether a process has ended. False for one of another machine or container, which cannot be seen."""
    if process is None or process[:2] != _machine() or not process[1]:
        return False
    pid = int(process[2])
    return _start_time(pid) != process[3]


@functools.cache
def _machine() -> Process:
    """Return the host, and its boot with the process namespace; empty where the system has no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return [socket.gethostname(), f"{boot} {Path('/proc/self/ns/pid').readlink()}"]
    except OSError:
        return [socket.gethostname(), ""]


def _start_time(pid: int) -> int:
    """Return the start time of a process in clock ticks, 0 where there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
