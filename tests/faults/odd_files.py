"""Files that are no regular ones: a FIFO, a device, a loop of links, a folder."""

import os
from pathlib import Path


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def folder(path: Path) -> None:
    path.mkdir()


ODD = [fifo, device, loop, folder]
ODD_NAMES = ["fifo", "device", "loop", "folder"]
