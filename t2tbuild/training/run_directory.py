"""A run is a directory: spec.yaml (resolved), environment.json, metrics.jsonl, checkpoints/ and pictures."""

import difflib
import fcntl
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from t2tbuild._version import __version__
from t2tbuild.errors import InputError
from t2tbuild.files import atomic_write, redact
from t2tbuild.spec.load import load_search_spec, load_spec
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.write import dump_yaml

PACKAGES = ("torch", "timm", "optuna", "fvcore", "pydantic", "numpy", "scikit-learn")


def default_folder(name: str) -> Path:
    """A new folder below runs/ for a run of this name, by the time of day."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    taken = sum(1 for _ in Path("runs").glob(f"{stem}*"))
    return Path("runs") / (f"{stem}-{taken + 1}" if taken else stem)


@contextmanager
def open_run(folder: Path, spec: Spec | SearchSpec, device: torch.device, *, shared: bool = False) -> Iterator[None]:
    """Open `folder` for a run of `spec`, create it if need be, and hold it against a second process.

    A `shared` one is held against those alone that want it for themselves.

    Raises InputError when it cannot be written, when another process works in it, or when it holds a run of another
    spec: then the difference is shown.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}; choose another --out") from None
    with lock:
        try:
            # of this process alone: workers outlive a kill
            fcntl.lockf(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder}: another process is at work in it; choose another --out") from None
        if _is_new(folder, spec) or not (folder / "environment.json").exists():
            atomic_write(folder / "environment.json", json.dumps(environment(device), indent=1) + "\n")
        yield


def _is_new(folder: Path, spec: Spec | SearchSpec) -> bool:
    """Whether the folder is a fresh one; writes its spec.yaml, or checks that the one there agrees with `spec`."""
    path = folder / "spec.yaml"
    new = not path.exists()
    if new and any(not child.name.startswith(".") for child in folder.iterdir()):
        raise InputError(f"{folder}: holds files but no spec.yaml of a run; choose another --out")
    new = new or _has_learned_nothing(folder)
    if not new:
        stored = load_search_spec(path) if isinstance(spec, SearchSpec) else load_spec(path)
        before, now = identity(stored), identity(spec)
        if before != now:
            raise InputError(f"{folder}: holds a run of another spec; choose another --out\n{difference(before, now)}")
    if new or stored != spec:
        atomic_write(path, dump_yaml(spec))
    return new


def _has_learned_nothing(folder: Path) -> bool:
    """Whether a run ended before anything of it was kept, as one whose first batch was too large; it may be changed."""
    kept = ("checkpoints", "metrics.jsonl", "study.db", "trials")
    return not any((folder / name).exists() for name in kept)


def identity(spec: Spec | SearchSpec) -> str:
    """What must not change when a run is continued: everything but how long a search goes on and who does it."""
    if isinstance(spec, SearchSpec):
        free: dict[str, Any] = {"trials": 1, "timeout": None, "confirm": None, "retries": 3}
        return dump_yaml(spec.model_copy(update={"search": spec.search.model_copy(update=free)}))
    return dump_yaml(spec)


def difference(before: str, now: str) -> str:
    """The lines in which two texts differ, as a patch has them."""
    return "\n".join(
        difflib.unified_diff(before.splitlines(), now.splitlines(), "the run's", "yours", lineterm="", n=0)
    )


def environment(device: torch.device) -> dict[str, Any]:
    """What a reader needs to make the run again: command, versions, machine."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "command": [redact(argument) for argument in sys.argv],
        "python": platform.python_version(),
        "packages": {"t2tbuild": __version__} | {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": gpu or "cpu",
    }


def read_environment(run: Path) -> dict[str, Any]:
    """What environment.json of a run holds. Raises InputError where that is no longer what a run writes."""
    path = run / "environment.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(found["command"], list) and isinstance(found["packages"], dict)):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: broken, or not there; copy that of a run of the same machine there") from None
    return found


class Metrics:
    """metrics.jsonl: a line of JSON for each epoch and for the result.

    What a full disk does not take is kept for the next line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: list[str] = []

    def add(self, record: dict[str, Any]) -> None:
        """Add a line and push it to disk. Raises OSError; the line then comes with the next one."""
        self.pending.append(json.dumps(record) + "\n")
        text = self.path.read_bytes() if self.path.exists() else b""
        torn = bool(text) and not text.endswith(b"\n")  # by a kill
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("\n" * torn + "".join(self.pending))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            if self.path.exists():
                os.truncate(self.path, len(text))  # whole lines of it may have been written
            raise
        self.pending.clear()

    def forget_after(self, epoch: int) -> None:
        """Drop the lines of epochs that are to be trained again, and torn ones."""
        records = read_json_lines(self.path)
        kept = [record for record in records if record.get("event") == "epoch" and record["epoch"] <= epoch]
        if kept != records:
            atomic_write(self.path, "".join(json.dumps(record) + "\n" for record in kept))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; torn and damaged lines are passed over."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        records += [record] if isinstance(record, dict) else []
    return records
