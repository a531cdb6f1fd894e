"""A PostgreSQL server of our own for tests and benchmarks: Debian's binaries in a temporary folder."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MADE: list[str] = []
"""The URLs of all databases that were made here, in their order."""
SETTINGS = ["-c", "fsync=off", "-c", "max_connections=120", "-c", "listen_addresses=127.0.0.1"]


def binaries() -> Path | None:
    """The folder of the newest server's programs; None where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).parent if named else None


def installed() -> bool:
    return binaries() is not None


@dataclass
class Server:
    """A running server, which can be stopped and started again."""

    programs: Path
    folder: Path
    port: int
    user: str

    def _run(self, *command: str | Path) -> None:
        root = os.geteuid() == 0  # the server refuses to run as root
        subprocess.run(command, check=True, capture_output=True, user=self.user if root else None, cwd="/")

    def make(self) -> None:
        self._run(self.programs / "initdb", "-D", self.folder / "data", "-U", "tester", "--auth=trust", "-E", "UTF8")

    def control(self, *command: str | Path) -> None:
        """Run a command of pg_ctl, and wait for its end."""
        self._run(self.programs / "pg_ctl", "-D", self.folder / "data", "-w", *command)

    def start(self, *more: str) -> None:
        options = " ".join([*SETTINGS, "-p", str(self.port), "-k", str(self.folder), *more])
        self.control("-o", options, "-l", self.folder / "log", "start")

    def stop(self, how: str = "immediate") -> None:
        self.control("-m", how, "stop")

    def database(self, name: str) -> str:
        """A new, empty database; its URL has a password, which the server does not ask for."""
        self._run(self.programs / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tester", name)
        MADE.append(f"postgresql://tester:hush-hush@127.0.0.1:{self.port}/{name}")
        return MADE[-1]


@contextmanager
def server() -> Iterator[Server]:
    """A server that runs in this context."""
    programs = binaries()
    assert programs is not None
    with (
        socket.socket() as free,
        tempfile.TemporaryDirectory(prefix="t2tbuild-pg-", ignore_cleanup_errors=True) as name,
    ):
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        user = getpass.getuser()
        if os.geteuid() == 0:
            user = "postgres"
            shutil.chown(name, user)
        made = Server(programs, Path(name), port, user)
        made.make()
        made.start()
        try:
            yield made
        finally:
            made.stop()
