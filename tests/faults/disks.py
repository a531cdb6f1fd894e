"""Small disks for tests: mounted, where the system allows it, and removed at the end."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _run(*command: str | Path) -> None:
    """Run a command of the system. The test is skipped where it is missing or refused."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)


@contextmanager
def memory_disk(folder: Path, size: str = "4m") -> Iterator[Path]:
    """A disk in memory at a new folder."""
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield folder
    finally:
        _unmount(folder)


def resize(disk: Path, size: str) -> None:
    """Change the size of a disk in memory."""
    _run("mount", "-o", f"remount,size={size}", disk)


@contextmanager
def ext4_disk(folder: Path, image: Path, size: int = 32_000_000) -> Iterator[Path]:
    """A disk with ext4 at a new folder, in a file."""
    folder.mkdir()
    with image.open("wb") as stream:
        stream.truncate(size)
    _run("mkfs.ext4", "-q", "-F", image)
    _run("mount", "-o", "loop", image, folder)
    try:
        yield folder
    finally:
        _unmount(folder)


def repair_disk(folder: Path, image: Path) -> None:
    """Check a disk that became read-only, as an administrator does, and mount it again."""
    subprocess.run(["umount", folder], check=True, capture_output=True)
    done = subprocess.run(["e2fsck", "-fy", image], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout  # 1: errors were corrected
    subprocess.run(["mount", "-o", "loop", image, folder], check=True, capture_output=True)


def set_read_only(folder: Path, value: bool = True) -> None:
    """Mount a disk again, read-only or not. No file there may be open for writing."""
    _run("mount", "-o", f"remount,{'ro' if value else 'rw'}", folder)


@contextmanager
def read_only_file(path: Path) -> Iterator[None]:
    """Make one file read-only, also for root, by a mount over itself."""
    _run("mount", "--bind", path, path)
    try:
        _run("mount", "-o", "remount,bind,ro", path)
        yield
    finally:
        _unmount(path)
