"""Run directories: spec.yaml (resolved), environment.json, metrics.jsonl, checkpoints/ and pictures."""

from __future__ import annotations

import difflib
import fcntl
import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from t2tbuild._version import __version__
from t2tbuild.errors import InputError
from t2tbuild.files import atomic_write, parse_json, read_json, redact
from t2tbuild.spec.diagnostics.yaml_source import read_file
from t2tbuild.spec.load import load_search_spec, load_spec
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.write import dump_yaml
from t2tbuild.training.run_paths import default_run_directory as default_run_directory
from t2tbuild.training.run_paths import in_use, require_run_or_empty

if TYPE_CHECKING:
    import torch

S = TypeVar("S", bound=Spec | SearchSpec)

PACKAGES = ("torch", "timm", "optuna", "fvcore", "pydantic", "numpy", "scikit-learn")


@contextmanager
def open_run(folder: Path, spec: Spec | SearchSpec, device: torch.device, *, shared: bool = False) -> Iterator[None]:
    """Open `folder` for a run of `spec`, create it if it is missing, and lock it against other processes.

    A `shared` lock admits other processes with a shared lock.

    Raises InputError when the folder cannot be written, when another process uses it, or when it holds a run of another
    spec; the message then has the difference.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}; choose another --out") from None
    with lock:
        try:
            # not inherited by worker processes, which may outlive a kill
            fcntl.lockf(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            raise in_use(folder) from None
        try:
            if _is_new(folder, spec) or not (folder / "environment.json").exists():
                atomic_write(folder / "environment.json", json.dumps(describe_environment(device), indent=1) + "\n")
        except OSError as error:
            raise InputError(f"{folder}: cannot be written: {error.strerror}; choose another --out") from None
        yield


def _is_new(folder: Path, spec: Spec | SearchSpec) -> bool:
    """Whether the folder has no run yet. Writes its spec.yaml, or checks that the existing one agrees with `spec`."""
    path = folder / "spec.yaml"
    require_run_or_empty(folder)
    new = not path.exists() or _has_no_results(folder)
    if not new:
        require_same_extensions(folder, spec)
        stored = load_search_spec(path) if isinstance(spec, SearchSpec) else load_spec(path)
        require_same_spec(folder, stored, _with_names_of(stored, spec))
    if new or stored.model_copy(update={"extensions": spec.extensions}) != spec:
        atomic_write(path, dump_yaml(with_copied_extensions(spec, folder)))
    return new


def with_copied_extensions(spec: S, run: Path) -> S:
    """Copy the extension files of a spec into a run's folder, and return the spec that names the copies."""
    if not spec.extensions:
        return spec

    from t2tbuild.spec.extension.load import copy_into_run

    changes = {"extensions": copy_into_run(spec.extensions, run)}
    return spec.model_copy(update=changes)  # type: ignore[return-value]


def require_same_extensions(folder: Path, spec: Spec | SearchSpec) -> None:
    """Raise InputError where the run in `folder` has other contents of extensions than `spec`.

    It imports nothing, and comes before the run's spec is loaded: a kind has one definition in a process.
    """
    data = read_file(folder / "spec.yaml").data
    names = data.get("extensions") if isinstance(data, dict) else None
    if not names or not isinstance(names, list):
        return

    from t2tbuild.spec.extension.load import identify, identify_in_run
    from t2tbuild.spec.extension.registry import ExtensionError

    try:
        stored = [identify_in_run(str(name), folder) for name in names]
    except ExtensionError:  # a copy is missing, which loading the spec reports at its line
        return
    now = [identify(name) for name in spec.extensions]
    if stored != now:
        lists = ("\n".join(("extensions:", *(f"- {one}" for one in listed))) for listed in (stored, now))
        raise _other_spec(folder, *lists)


def require_same_spec(folder: Path, stored: Spec | SearchSpec, spec: Spec | SearchSpec) -> None:
    """Raise InputError, with the difference, where the run in `folder` has another spec than `spec`."""
    before, now = resume_identity(stored), resume_identity(spec)
    if before != now:
        raise _other_spec(folder, before, now)


def _other_spec(folder: Path, before: str, now: str) -> InputError:
    return InputError(f"{folder}: holds a run of another spec; choose another --out\n{spec_diff(before, now)}")


def _with_names_of(stored: Spec | SearchSpec, spec: Spec | SearchSpec) -> Spec | SearchSpec:
    """Return `spec` without the names of its classes where a run of an earlier version has stored none."""
    if isinstance(spec, SearchSpec) or isinstance(stored, SearchSpec) or stored.model.label_names is not None:
        return spec
    return spec.model_copy(update={"model": spec.model.model_copy(update={"label_names": None})})


def _has_no_results(folder: Path) -> bool:
    """Whether a run failed before it saved anything, as with a first batch that is too large; its spec may change."""
    results = ("checkpoints", "metrics.jsonl", "study.db", "trials")
    return not any((folder / name).exists() for name in results)


def resume_identity(spec: Spec | SearchSpec) -> str:
    """Return the part of a spec that must not change when a run resumes.

    Of a search, that is all but its length, its retries and the folder of its cache.
    """
    if spec.extensions:
        from t2tbuild.spec.extension.load import identify

        spec = spec.model_copy(update={"extensions": tuple(map(identify, spec.extensions))})
    if isinstance(spec, SearchSpec):
        free: dict[str, Any] = {"trials": 1, "timeout": None, "confirm": None, "retries": 3}
        free |= {"patience": 16, "heartbeat": 60.0}
        free |= {"proxy": spec.search.proxy.model_copy(update={"cache": None})}
        return dump_yaml(spec.model_copy(update={"search": spec.search.model_copy(update=free)}))
    return dump_yaml(spec)


def spec_diff(before: str, now: str) -> str:
    """Return the lines in which two texts differ, as a unified diff without context."""
    return "\n".join(
        difflib.unified_diff(before.splitlines(), now.splitlines(), "the run's", "yours", lineterm="", n=0)
    )


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return what is needed to reproduce the run: command, versions, machine."""
    import torch  # not needed to read a run

    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "command": [redact(argument) for argument in sys.argv],
        "python": platform.python_version(),
        "packages": {"t2tbuild": __version__} | {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": gpu or device.type,
    }


def read_environment(run: Path) -> dict[str, Any]:
    """Return the content of a run's environment.json. Raises InputError when it is missing or damaged."""
    path = run / "environment.json"
    try:
        found: dict[str, Any] = read_json(path)
        if not (isinstance(found["command"], list) and isinstance(found["packages"], dict)):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: missing or damaged; copy one from another run on the same machine") from None
    return found


class MetricsFile:
    """metrics.jsonl: one JSON line for each epoch and for the result.

    Lines that a full disk refuses are written with the next one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: list[str] = []

    def append(self, record: dict[str, Any]) -> None:
        """Append a line and flush it to disk. Raises OSError; the line is then written with the next one."""
        self.pending.append(json.dumps(record) + "\n")
        text = self.path.read_bytes() if self.path.exists() else b""
        incomplete = bool(text) and not text.endswith(b"\n")  # by a kill
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("\n" * incomplete + "".join(self.pending))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            if self.path.exists():
                os.truncate(self.path, len(text))  # remove what was partly written
            raise
        self.pending.clear()

    def drop_after(self, epoch: int) -> None:
        """Drop the lines after `epoch`, from which training continues, and incomplete lines."""
        records = read_json_lines(self.path)
        kept = [record for record in records if record.get("event") == "epoch" and _epoch_of(record) <= epoch]
        if kept != records:
            atomic_write(self.path, "".join(json.dumps(record) + "\n" for record in kept))


def _epoch_of(record: dict[str, Any]) -> float:
    """Return the epoch of a record, infinity where it has none."""
    epoch = record.get("epoch")
    return epoch if isinstance(epoch, int) else math.inf


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON-lines file, without incomplete and damaged lines."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            record = parse_json(line)
        except ValueError:
            continue
        records += [record] if isinstance(record, dict) else []
    return records
