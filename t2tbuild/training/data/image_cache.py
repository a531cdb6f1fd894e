"""Decoded images in a file that is mapped into memory: made once, by one of many processes, in chunks with sums."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from t2tbuild.errors import InputError
from t2tbuild.files import atomic_write

CHUNK_BYTES = 2**24
"""Bytes of a chunk: what a killed process loses at most."""
POLL_SECONDS = 0.5
"""Time between two attempts at a lock that another process holds."""

Shape = tuple[int, int, int]
"""Channels, height and width of the images."""


Decode = Callable[[range], Iterator[tuple[np.ndarray[Any, Any], int, tuple[str, ...]]]]
"""Decodes the images at some positions, in order: pixels [C, H, W] as bytes, label, names of corrupt images."""


@dataclass(frozen=True)
class CacheProgress:
    """How many images of a split are in the cache, of how many; `decoded` of them by this process, in `seconds`."""

    split: str
    done: int
    total: int
    decoded: int
    seconds: float


@dataclass(frozen=True)
class CacheCallbacks:
    """Callbacks of a process that decodes images into a cache.

    `report` gets the progress. `check` is called after each image and may raise. `notice` gets a message to the user.
    """

    report: Callable[[CacheProgress], None] = field(default=lambda _progress: None)
    check: Callable[[], None] = field(default=lambda: None)
    notice: Callable[[str], None] = field(default=lambda _text: None)


@dataclass(frozen=True)
class CachedImages:
    """Images [N, C, H, W] as bytes, mapped into memory, their labels [N], and the corrupt images that are replaced.

    `sums` and `squares` are those of the values of each channel, from which mean and deviation follow exactly.
    """

    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    corrupt: tuple[str, ...]
    sums: tuple[int, ...]
    squares: tuple[int, ...]


def open_cache(
    folder: Path,
    key: str,
    about: dict[str, Any],
    *,
    count: int,
    shape: Shape,
    decode: Decode,
    callbacks: CacheCallbacks,
) -> CachedImages:
    """Open the cache of `key` in a folder, and make it, or what is missing of it, where it is not complete.

    Of several processes one makes it, and the others wait. A chunk whose sum is wrong is decoded again. `about` is
    written beside the images; another cache there with the same `about` has images of files that have changed since,
    which a notice reports. Raises InputError where the folder cannot be written, and whatever `decode` raises.
    """
    with _write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{key}.lock")
        _wait_for(lock, callbacks)
    try:
        return _Cache(folder / key, about, count=count, shape=shape).complete(decode, callbacks)
    finally:
        lock.release()


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "write search.proxy.cache=FOLDER, or smaller search.proxy.images"
        raise InputError(f"{folder}: the cache of images cannot be written: {reason}; {hint}") from None


def _wait_for(lock: FileLock, callbacks: CacheCallbacks) -> None:
    """Acquire a lock. The first wait is reported."""
    waits = False
    while True:
        try:
            lock.acquire(timeout=POLL_SECONDS if waits else 0)
        except Timeout:
            if not waits:
                callbacks.notice("another process decodes these images; this one waits for it")
            waits = True
            callbacks.check()
        else:
            return


class _Cache:
    """The files of one cache: `images.u8`, and `chunks.jsonl` with the labels and the sum of each chunk on disk."""

    def __init__(self, folder: Path, about: dict[str, Any], *, count: int, shape: Shape) -> None:
        self.folder, self.about, self.count, self.shape = folder, about, count, shape
        self.images, self.log = folder / "images.u8", folder / "chunks.jsonl"
        self.image_bytes = int(np.prod(shape))
        size = max(1, CHUNK_BYTES // self.image_bytes)
        self.chunks = [range(start, min(start + size, count)) for start in range(0, count, size)]

    def complete(self, decode: Decode, callbacks: CacheCallbacks) -> CachedImages:
        """Make the chunks that are missing, and return all."""
        if not self.folder.is_dir() and (others := self._others()):
            since = time.strftime("%d %B %Y, %H:%M", time.localtime(max(one.stat().st_mtime for one in others)))
            callbacks.notice(
                f"{self.about['split']} images have changed since they were cached on {since}: caching again"
            )
        with _write_errors(self.folder.parent):
            self.folder.mkdir(exist_ok=True)
            if not (self.folder / "about.json").exists():
                atomic_write(self.folder / "about.json", json.dumps(self.about, indent=1) + "\n")
            chunks = self._verified_chunks()
            self.images.touch()
        done, decoded, started = sum(len(self.chunks[index]) for index in chunks), 0, time.monotonic()
        for index, positions in enumerate(self.chunks):
            if index in chunks:
                continue
            pixels = np.empty((len(positions), *self.shape), dtype=np.uint8)
            labels: list[int] = []
            corrupt: list[str] = []
            for place, (image, label, replaced) in enumerate(decode(positions)):
                pixels[place] = image
                labels.append(label)
                corrupt += replaced
                decoded += 1
                seconds = time.monotonic() - started
                callbacks.report(CacheProgress(self.about["split"], done + decoded, self.count, decoded, seconds))
                callbacks.check()
            with _write_errors(self.folder.parent):
                chunks[index] = self._write(index, pixels, labels, corrupt)
        return self._open([chunks[index] for index in range(len(self.chunks))])

    def _others(self) -> list[Path]:
        """Return the descriptions of other caches of the same data."""
        found = []
        for path in self.folder.parent.glob("*/about.json"):
            try:
                same = json.loads(path.read_text(encoding="utf-8")) == self.about
            except (OSError, ValueError):
                same = False
            found += [path] if same else []
        return found

    def _verified_chunks(self) -> dict[int, dict[str, Any]]:
        """Return the records of the chunks on disk whose sums are right. An incomplete line is left out."""
        if not (self.log.exists() and self.images.exists()):
            return {}
        found: dict[int, dict[str, Any]] = {}
        with self.images.open("rb") as stream:
            for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    record = json.loads(line)
                    positions = self.chunks[record["chunk"]]
                    stream.seek(positions.start * self.image_bytes)
                    data = stream.read(len(positions) * self.image_bytes)
                    valid = _sum_of(data, record["labels"]) == record["sha256"]
                except (ValueError, KeyError, TypeError, IndexError):
                    continue
                if valid:
                    found[record["chunk"]] = record
        return found

    def _write(
        self, index: int, pixels: np.ndarray[Any, Any], labels: Sequence[int], corrupt: Sequence[str]
    ) -> dict[str, Any]:
        """Write a chunk, then its record, each flushed to disk."""
        data = pixels.tobytes()
        with self.images.open("r+b") as stream:
            stream.seek(self.chunks[index].start * self.image_bytes)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        values = pixels.astype(np.int64)
        record = {
            "chunk": index,
            "sha256": _sum_of(data, labels),
            "corrupt": list(corrupt),
            "sums": values.sum(axis=(0, 2, 3)).tolist(),
            "squares": (values**2).sum(axis=(0, 2, 3)).tolist(),
            "labels": list(labels),
        }
        with self.log.open("a", encoding="utf-8") as log:
            log.write("\n" + json.dumps(record) + "\n")  # begins a new line, as a kill may have left an incomplete one
            log.flush()
            os.fsync(log.fileno())
        return record

    def _open(self, chunks: Sequence[dict[str, Any]]) -> CachedImages:
        # copy on write: a tensor needs writable memory, and the file stays as it is
        images = np.memmap(self.images, dtype=np.uint8, mode="c", shape=(self.count, *self.shape))
        labels = np.array([label for chunk in chunks for label in chunk["labels"]], dtype=np.int64)
        corrupt = dict.fromkeys(name for chunk in chunks for name in chunk["corrupt"])
        sums, squares = (np.sum([chunk[name] for chunk in chunks], axis=0).tolist() for name in ("sums", "squares"))
        return CachedImages(images, labels, tuple(corrupt), tuple(sums), tuple(squares))


def _sum_of(pixels: bytes, labels: Sequence[int]) -> str:
    """Return the SHA-256 sum of a chunk's pixels and labels."""
    digest = hashlib.sha256(pixels)
    digest.update(json.dumps(list(labels)).encode())
    return digest.hexdigest()
