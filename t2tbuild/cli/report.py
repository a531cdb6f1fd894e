"""t2tbuild report: write the report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2tbuild.cli.console import print_json, stdout
from t2tbuild.cli.options import Json
from t2tbuild.cli.search import Storage
from t2tbuild.cli.search_runs import load_result
from t2tbuild.cli.write import report_write_errors
from t2tbuild.errors import InputError
from t2tbuild.files import exists


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory of a training or of a search.")],
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write report.html and report.json of a run; the page opens offline.

    Example: t2tbuild report runs/five-giga
    """
    if not exists(run / "spec.yaml"):
        problem = "no such folder" if not exists(run) else "not a run of a training or a search: it has no spec.yaml"
        raise InputError(f"{run}: {problem}; name the --out folder of t2tbuild train or search")
    if not exists(run / "environment.json"):
        raise InputError(f"{run}: has a spec.yaml but no environment.json, so nothing ran in it; name a run")

    from t2tbuild.spec.load import read_any
    from t2tbuild.spec.root import SearchSpec

    if isinstance(read_any(run / "spec.yaml").spec, SearchSpec):
        from t2tbuild.report.search_page import write_search_page

        result = load_result(run, storage)
        with report_write_errors("RUN", run):
            write_search_page(result)
    elif storage is not None:
        raise InputError(f"--storage is for searches, and {run} is a training; leave it out")
    else:
        from t2tbuild.report.training_page import write_training_page

        with report_write_errors("RUN", run):
            write_training_page(run)
    if as_json:
        print_json({"page": str(run / "report.html"), "data": str(run / "report.json")})
    else:
        stdout().print(str(run / "report.html"), soft_wrap=True, markup=False)
