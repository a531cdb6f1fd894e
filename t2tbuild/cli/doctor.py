"""t2tbuild doctor: what is installed, what is missing, and what is wrong."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.options import Json
from t2tbuild.spec.units import plural

if TYPE_CHECKING:
    from t2tbuild.cli.doctor_checks import Finding


def doctor(as_json: Json = False) -> None:
    """Print versions, devices, optional extras and tools, and what is wrong; the exit code is 1 if something is broken.

    Packages are imported in processes of their own, which takes half a minute. Nothing is changed.

    Example: t2tbuild doctor --json
    """
    from t2tbuild.cli.doctor_checks import Status, run_checks

    if stderr().is_terminal:
        stderr().print("importing the packages", style="dim")
    findings = run_checks()
    broken = [one for one in findings if one.status is Status.BROKEN]
    if as_json:
        print_json({"ok": not broken, "findings": [asdict(one) for one in findings]})
    else:
        _print(findings)
    if broken:
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    """Print a line for each finding, section by section, then what is wrong."""
    from t2tbuild.cli.doctor_checks import Status
    from t2tbuild.report.table import FactTable

    for section in dict.fromkeys(one.section for one in findings):
        stdout().print(section, style="bold")
        table = FactTable()
        for one in findings:
            if one.section == section:
                table.add_row(f"  {one.status}", one.name, " ".join(filter(None, (one.value, one.message))))
        stdout().print(table)
    wrong = [one for one in findings if one.status in (Status.BROKEN, Status.WARNING)]
    if not wrong:
        stdout().print("nothing is wrong")
        return
    stdout().print(f"{plural(len(wrong), 'problem')}:")
    for one in wrong:
        stdout().print(f"  {one.status}: {one.name}: {one.message}", soft_wrap=True)
