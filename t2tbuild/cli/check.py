"""t2tbuild check: verify the nodes of an extension file."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from t2tbuild.cli.console import print_json
from t2tbuild.cli.options import Json
from t2tbuild.errors import InputError


def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A Python file with EXTENSIONS: my_attention.py.")],
    as_json: Json = False,
) -> None:
    """Check an extension: it builds, its shapes, gradients, counts and export are right. Allows the file from now on.

    Exits with 1 if a check fails. Example: t2tbuild check my_attention.py
    """
    from t2tbuild.contract.checks import Status, check_extension
    from t2tbuild.spec.extension import consent
    from t2tbuild.spec.extension.load import find_file, load_file

    if not file.endswith(".py"):
        raise InputError(f"{file}: an extension is a Python file, my_attention.py")
    if "://" in file:
        raise InputError(f"{file}: is a URL; download it, read it, and name the file")
    with consent.granting(True):
        loaded = load_file(find_file(file, Path()))
    if reason := consent.record_own_file(loaded.path, loaded.sha256):
        print(f"note: the consent to {loaded.path.name} could not be kept: {reason}", file=sys.stderr)
    elif reason := consent.reason_against_path(loaded.path):
        print(f"note: {loaded.path.name} is allowed as it is now, but not after changes: {reason}", file=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr):  # what the user's code prints
        reports = [check_extension(one, loaded.path) for one in loaded.extensions]
    failed = sum(report.failed for report in reports)
    if as_json:
        print_json({"file": str(loaded.path), "ok": not failed, "extensions": [_to_json(report) for report in reports]})
    else:
        for report in reports:
            print(f"{report.kind}: {report.node}, a {report.what}")
            for finding in report.findings:
                mark = {Status.OK: "ok", Status.FAILED: "FAILED", Status.SKIPPED: "-"}[finding.status]
                print(f"  {mark:7} {finding.check}" + (f": {finding.message}" if finding.message else ""))
        failures = "1 check failed" if failed == 1 else f"{failed} checks failed"
        print(f"{loaded.path.name}: {failures if failed else 'all checks passed'}")
    sys.stdout.flush()
    raise typer.Exit(1 if failed else 0)


def _to_json(report: Any) -> dict[str, Any]:
    checks = [{"check": one.check, "status": str(one.status), "message": one.message} for one in report.findings]
    return {"kind": report.kind, "what": report.what, "node": report.node, "checks": checks}
