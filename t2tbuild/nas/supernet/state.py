"""What the files of a run say of its supernet: its phase, and its report. Torch-free."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from t2tbuild.nas.supernet.progress import Phase
from t2tbuild.nas.supernet.results import (
    FOLDER,
    ConfirmedResult,
    InheritedResult,
    StandaloneResult,
    read_results,
)
from t2tbuild.spec.supernet import SupernetSpec

METRICS, REPORT = "metrics.jsonl", "report.json"


class PhaseState(NamedTuple):
    """The phase of a supernet: how much of it is done, and of how much, None where the files do not say."""

    phase: Phase
    done: int
    total: int | None


def find_phase(run: Path, settings: SupernetSpec) -> PhaseState:
    """Return the latest phase of the supernet of a run directory that has results."""
    folder = run / FOLDER
    if confirmed := read_results(folder, ConfirmedResult):
        return PhaseState("confirmation", len(confirmed), None)
    if alone := read_results(folder, StandaloneResult):
        return PhaseState("validity", len(alone), settings.validity)
    if members := read_results(folder, InheritedResult):
        return PhaseState("evaluation", len(members), None)  # a small space has fewer than `candidates`
    return PhaseState("training", _last_step(folder / METRICS), settings.steps)


def _last_step(metrics: Path) -> int:
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def read_report(run: Path) -> dict[str, Any] | None:
    """Return report.json of the supernet of a run directory, None before its end."""
    path = run / FOLDER / REPORT
    if not path.is_file():
        return None
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report
