"""The checks of t2tbuild doctor. Each is isolated: one that fails is a finding, and packages are imported elsewhere."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from t2tbuild.cli.doctor_probe import MARK, MODEL

MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn"}
"""Module of each package whose name is another one."""

USES = {
    "dashboard": "optuna-dashboard shows a search in the browser",
    "data": "Hugging Face and WebDataset data",
    "dev": "the tests",
    "docs": "the documentation site",
    "mysql": "searches with a MySQL storage",
    "notebook": "the notebook's test",
    "onnx": "export and use of ONNX files",
    "openvino": "export and use of OpenVINO files",
    "postgresql": "searches with a PostgreSQL storage",
    "tensorboard": "train --log tensorboard",
    "wandb": "train --log wandb",
}
"""What each extra is for."""

FEW_PACKAGES = 5  # of an extra, whose versions are all shown
IMPORT_SECONDS = 300  # for all packages together
LITTLE_DISK = 2 * 10**9  # bytes; a checkpoint of t2t_vit_14 has 260 MB with its optimiser
LITTLE_SHARED_MEMORY = 256 * 10**6  # bytes; loader workers send their batches through it

PACKAGE = Path(__file__).parents[1]
PROBE = Path(__file__).with_name("doctor_probe.py")


class Status(StrEnum):
    """Outcomes of a check: `missing` is optional, `warning` may matter, `broken` must be fixed."""

    OK = "ok"
    MISSING = "missing"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """What a check found: its section, what was checked, its value, and what is wrong and what to do about it."""

    section: str
    name: str
    status: Status
    value: str = ""
    message: str = ""


def run_checks() -> list[Finding]:
    """Run all checks. Imports nothing heavy into this process, and raises nothing."""
    findings: list[Finding] = []
    for section, check in CHECKS.items():
        try:
            findings += check()
        except Exception as error:  # one broken check must not hide the others
            findings.append(Finding(section, "the check itself", Status.BROKEN, "", f"{type(error).__name__}: {error}"))
    return findings


def check_program() -> Iterator[Finding]:
    """Check Python, the version of t2tbuild and the specs that ship with it."""
    from t2tbuild._version import __version__

    yield Finding("program", "t2tbuild", Status.OK, f"{__version__}, {PACKAGE}")
    yield Finding("program", "python", Status.OK, f"{platform.python_version()}, {sys.executable}")
    yield Finding("program", "system", Status.OK, f"{platform.platform()}, {os.cpu_count()} CPU cores")

    from t2tbuild.spec import catalog

    count = len(catalog.all_names())
    status, message = (Status.OK, "") if count else (Status.BROKEN, "no spec ships with it; install it again")
    yield Finding("program", "shipped specs", status, str(count), message)


def check_packages() -> Iterator[Finding]:
    """Check the versions of all dependencies, import those that are installed, and check torch's devices."""
    required, extras = read_requirements()
    installed = {name: _version_of(name) for name in {*required, *(one for names in extras.values() for one in names)}}
    tested = {name: None for table in (required, *map(extras.get, extras.keys() - {"dev"})) for name in table or ()}
    modules = {name: MODULES.get(name, name.replace("-", "_")) for name in sorted(tested) if installed[name]}
    reports = probe_imports([*modules.values(), MODEL])
    for name, requirement in required.items():
        yield _rate("packages", name, requirement, installed[name], reports.get(modules.get(name, ""), {}))
    trial = reports[MODEL]
    status = Status.BROKEN if trial["error"] else Status.OK
    yield Finding(
        "packages", "a model", status, "" if trial["error"] else "t2t_vit_7 is built and runs", trial["error"]
    )
    for extra, needs in extras.items():
        yield _rate_extra(extra, needs, installed, {name: reports.get(modules.get(name, ""), {}) for name in needs})
    yield from _rate_devices(reports.get("torch", {}))


def read_requirements() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return the required packages with their versions, and those of each extra, from the metadata of t2tbuild.

    Raises PackageNotFoundError if t2tbuild is not installed.
    """
    required: dict[str, str] = {}
    extras: dict[str, dict[str, str]] = {}
    for line in importlib.metadata.requires("t2tbuild") or ():
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*)", line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        if match is None or match[1] == "t2tbuild":
            continue
        table = extras.setdefault(extra[1], {}) if extra else required
        table[match[1].lower()] = match[2].strip(" ()")
    return required, dict(sorted(extras.items()))


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _rate(section: str, name: str, requirement: str, version: str | None, report: dict[str, Any]) -> Finding:
    """Rate a required package by its version and its import."""
    if version is None:
        return Finding(section, name, Status.BROKEN, "", f"is not installed; pip install '{name}{requirement}'")
    if not _satisfies(version, requirement):
        message = f"t2tbuild needs {requirement}; pip install '{name}{requirement}'"
        return Finding(section, name, Status.BROKEN, version, message)
    if "torchvision::nms" in (error := report.get("error") or ""):
        hint = "install both from one index: pip install --force-reinstall torch torchvision"
        return Finding(section, name, Status.BROKEN, version, f"it is not built for this torch; {hint}")
    if error:
        return Finding(section, name, Status.BROKEN, version, f"cannot be imported: {error}; install it again")
    return Finding(section, name, Status.OK, version)


def _satisfies(version: str, requirement: str) -> bool:
    """Whether a version meets a requirement; where the package that compares them is missing, it counts as met."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return SpecifierSet(requirement).contains(version, prereleases=True)


def _rate_extra(
    extra: str, needs: dict[str, str], installed: dict[str, str | None], reports: dict[str, dict[str, Any]]
) -> Finding:
    """Rate an extra by its packages: nothing is wrong where they are not installed."""
    use, absent = USES.get(extra, ""), [name for name in needs if installed[name] is None]
    if absent:
        named = ", ".join(absent) if len(absent) <= FEW_PACKAGES else f"{len(absent)} packages"
        message = f"not installed: {named}; for {use}: pip install 't2tbuild[{extra}]'"
        return Finding("extras", extra, Status.MISSING, "", message)
    value = ", ".join(f"{name} {installed[name]}" for name in needs)
    value = value if len(needs) <= FEW_PACKAGES else f"{len(needs)} packages"
    rated = [_rate("extras", name, needs[name], installed[name], reports[name]) for name in needs]
    wrong = [f"{one.name} {one.message}" for one in rated if one.status is Status.BROKEN]
    return Finding("extras", extra, Status.BROKEN if wrong else Status.OK, value, "; ".join(wrong))


def _rate_devices(report: dict[str, Any]) -> Iterator[Finding]:
    """Rate the devices that torch found, where it could be imported."""
    devices = report.get("devices", ())
    for one in devices:
        message = f"does not work: {one['error']}" if one["error"] else ""
        yield Finding("devices", one["name"], Status.BROKEN if message else Status.OK, one["label"], message)
    if devices and len(devices) == 1 and shutil.which("nvidia-smi"):
        build = f"for CUDA {report['cuda']}" if report.get("cuda") else "without CUDA"
        message = (
            f"nvidia-smi is here, but torch, built {build}, finds no GPU: check the driver, or install torch again"
        )
        yield Finding("devices", "cuda", Status.WARNING, "", message)


def probe_imports(modules: Sequence[str], seconds: float = IMPORT_SECONDS) -> dict[str, dict[str, Any]]:
    """Import modules in other processes. Return of each the error, empty if there is none, and more of torch.

    A module that ends its process is an error, and the others are imported by the next process.
    """
    reports: dict[str, dict[str, Any]] = {}
    given = os.environ.get("PYTHONPATH")
    paths = {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *([given] if given else [])])}
    while waiting := [name for name in modules if name not in reports]:
        command = [sys.executable, "-P", str(PROBE), *waiting]  # -P: its folder has modules of other names
        try:
            done = subprocess.run(  # noqa: S603 - our own script
                command, capture_output=True, text=True, errors="replace", timeout=seconds, env=os.environ | paths
            )
            output, end = done.stdout, _describe_end(done.returncode)
        except subprocess.TimeoutExpired as expired:
            raw = expired.stdout or b""
            output = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
            end = f"took more than {seconds:g} seconds"
        lines = [json.loads(line.partition(MARK)[2]) for line in output.splitlines() if MARK in line]
        reports |= {line["done"]: line for line in lines if "done" in line}
        started = [line["start"] for line in lines if "start" in line]
        unfinished = started[-1] if started and started[-1] not in reports else waiting[0]
        if unfinished not in reports:
            reports[unfinished] = {"error": end}
    return reports


def _describe_end(code: int) -> str:
    """Describe how a process that imports a module ended."""
    if code < 0:
        return f"the process was ended by signal {signal.Signals(-code).name}"
    return f"the process ended with exit code {code}"


def check_machine() -> Iterator[Finding]:
    """Check the disk and shared memory, and SQLite in the current folder, where runs are written."""
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    little = "little space for runs; free some, or name another folder with --out" if free < LITTLE_DISK else ""
    status = Status.WARNING if little else Status.OK
    yield Finding("machine", "free disk", status, f"{free / 1e9:.1f} GB in {here}", little)
    shared = Path("/dev/shm")  # noqa: S108 - the size of the shared memory, where nothing is written
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        small = free < LITTLE_SHARED_MEMORY
        message = "small for loader workers; docker run --shm-size 2g, or train.data.workers=0" if small else ""
        status = Status.WARNING if small else Status.OK
        yield Finding("machine", "shared memory", status, f"{free / 1e9:.1f} GB", message)
    yield _check_sqlite(here)


def _check_sqlite(folder: Path) -> Finding:
    """Write a database in a folder, as a search does in its run directory."""
    version = sqlite3.sqlite_version
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".t2tbuild-doctor-") as beside:
            first, second = (sqlite3.connect(Path(beside) / "study.db", isolation_level=None) for _ in range(2))
            try:
                first.execute("create table t (x)")
                first.execute("begin immediate")
                first.execute("insert into t values (1)")
                first.execute("commit")
                ((rows,),) = second.execute("select count(*) from t")
            finally:
                first.close()
                second.close()
        if rows != 1:
            raise sqlite3.OperationalError("a written row is not there")
    except (OSError, sqlite3.Error) as error:
        message = f"no database can be written in {folder} ({error}); name another folder with --out, or --storage"
        return Finding("machine", "sqlite", Status.BROKEN, version, message)
    return Finding("machine", "sqlite", Status.OK, f"{version}, writes in {folder}")


def check_settings() -> Iterator[Finding]:
    """Check the variables of the environment that t2tbuild reads."""
    from t2tbuild.bench import measure_command
    from t2tbuild.nas.store.url import DRIVERS, VARIABLE
    from t2tbuild.spec.data import DATA_VARIABLE
    from t2tbuild.spec.extension.consent import ALLOW_VARIABLE
    from t2tbuild.training.device_setting import DEVICE_VARIABLE
    from t2tbuild.weights.cache import CACHE, OFFLINE
    from t2tbuild.weights.download import SCHEMES
    from t2tbuild.weights.released import MIRROR

    def rate(variable: str, wrong: Callable[[str], str], shown: Callable[[str], str] = str) -> Finding:
        value = os.environ.get(variable, "")
        message = wrong(value) if value else ""
        return Finding(
            "settings", variable, Status.BROKEN if message else Status.OK, shown(value) or "not set", message
        )

    def wrong_device(value: str) -> str:
        known = re.fullmatch("cpu|cuda|cuda:[0-9]{1,3}|mps", value)
        return "" if known else "must be cpu, cuda, cuda:N or mps"

    def wrong_folder(value: str) -> str:
        return "" if Path(value).expanduser().is_dir() else "there is no such folder"

    def wrong_cache(value: str) -> str:
        folder = Path(value).expanduser()
        return "is not a folder" if folder.exists() and not folder.is_dir() else ""

    def wrong_switch(value: str) -> str:
        known = ("1", "on", "yes", "true", "0", "off", "no", "false")
        return "" if value.lower() in known else "must be 1, which turns downloads off, or 0"

    def wrong_mirror(value: str) -> str:
        if "://" not in value:
            return wrong_folder(value)
        return "" if value.partition(":")[0] in SCHEMES else f"must be a folder or a URL of {', '.join(SCHEMES)}"

    def wrong_consent(value: str) -> str:
        known = re.fullmatch("1|[0-9a-f]{64}", value)
        return "" if known else "must be 1, which allows every command, or the SHA-256 of one"

    def wrong_storage(value: str) -> str:
        scheme = value.partition(":")[0].partition("+")[0].lower()
        known = {**dict.fromkeys(DRIVERS), "postgres": None, "mariadb": None}
        return "" if scheme in known else f"must start with one of {', '.join(f'{one}://' for one in DRIVERS)}"

    from t2tbuild.files import redact

    yield rate(DEVICE_VARIABLE, wrong_device)
    yield rate(DATA_VARIABLE, wrong_folder)
    yield rate(VARIABLE, wrong_storage, redact)
    yield rate(CACHE, wrong_cache)
    yield rate(OFFLINE[0], wrong_switch)
    yield rate(MIRROR, wrong_mirror, redact)
    yield rate(ALLOW_VARIABLE, lambda _value: "")
    yield rate(measure_command.ALLOW_VARIABLE, wrong_consent)


def check_tools() -> Iterator[Finding]:
    """Look for the programs that some commands use; none is required."""
    for name, programs, use in (
        ("C++ compiler", ("c++", "g++", "clang++"), "train.compile and bench --compile"),
        ("nvidia-smi", ("nvidia-smi",), "NVIDIA GPUs"),
        ("PostgreSQL", ("psql",), "a look into a storage on PostgreSQL"),
        ("dashboard", ("optuna-dashboard",), "a search in the browser, live"),
    ):
        beside = Path(sys.executable).parent
        found = next((path for one in programs if (path := shutil.which(one) or shutil.which(one, path=beside))), None)
        message = "" if found else f"not found; for {use}"
        yield Finding("tools", name, Status.OK if found else Status.MISSING, found or "", message)
    yield _check_browser()


def _check_browser() -> Finding:
    """Look for a browser, which opens report.html."""
    import webbrowser

    try:
        browser: Any = webbrowser.get()
    except webbrowser.Error:
        return Finding("tools", "browser", Status.MISSING, "", "not found; copy report.html to a machine that has one")
    return Finding("tools", "browser", Status.OK, getattr(browser, "name", "") or type(browser).__name__)


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "program": check_program,
    "packages": check_packages,
    "machine": check_machine,
    "settings": check_settings,
    "tools": check_tools,
}
"""The checks by their section, in the order of the table."""
