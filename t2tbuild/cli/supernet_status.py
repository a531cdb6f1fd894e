"""The phase of a search's supernet in words, for progress lines and for `t2tbuild search status`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2tbuild.nas.supernet.progress import Phase
    from t2tbuild.spec.supernet import SupernetSpec

UNITS: dict[Phase, str] = {
    "training": "steps",
    "evaluation": "members with inherited weights",
    "validity": "members trained alone",
    "confirmation": "trainings",
}
"""What is counted in each phase."""


def describe_phase(phase: Phase, done: int, total: int | None) -> str:
    """Describe how much of a phase is done.

    >>> describe_phase("training", 120, 2000), describe_phase("confirmation", 3, None)
    ('supernet, training: 120 of 2,000 steps', 'supernet, confirmation: 3 trainings')
    """
    return f"supernet, {phase}: {done:,}{'' if total is None else f' of {total:,}'} {UNITS[phase]}"


def supernet_line(run: Path, settings: SupernetSpec) -> str:
    """Return the phase of a run's supernet as a line; after its end, what it was worth."""
    from t2tbuild.nas.supernet.state import find_phase, read_report

    report = read_report(run)
    return str(report["sentence"]) if report else describe_phase(*find_phase(run, settings))


def supernet_to_json(run: Path, settings: SupernetSpec) -> dict[str, Any]:
    """Return the phase of a run's supernet as plain data."""
    from t2tbuild.nas.supernet.state import find_phase, read_report

    if report := read_report(run):
        return {"phase": "done", "decides": report["decides"], "sentence": report["sentence"]}
    return find_phase(run, settings)._asdict()
