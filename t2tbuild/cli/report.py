"""t2tbuild report: the page of a run, written anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2tbuild.cli.console import print_json, stdout
from t2tbuild.cli.options import Json
from t2tbuild.cli.search import Storage
from t2tbuild.cli.search_runs import result_of
from t2tbuild.cli.write import writing
from t2tbuild.errors import InputError
from t2tbuild.files import exists


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory of a training or of a search.")],
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write report.html and report.json of a run: one page that opens anywhere, without a network.

    Example: t2tbuild report runs/five-giga
    """
    if not exists(run / "spec.yaml"):
        what = "no such folder" if not exists(run) else "no run of a training or a search, which has a spec.yaml"
        raise InputError(f"{run}: {what}; name what --out of t2tbuild train or search named")
    if not exists(run / "environment.json"):
        raise InputError(f"{run}: holds a spec.yaml but no environment.json, so nothing ran in it; name a run")

    from t2tbuild.spec.load import read_any
    from t2tbuild.spec.root import SearchSpec

    if isinstance(read_any(run / "spec.yaml").spec, SearchSpec):
        from t2tbuild.report.search_page import write_page

        result = result_of(run, storage)
        with writing("RUN", run):
            write_page(result)
    elif storage is not None:
        raise InputError(f"--storage is of a search, and {run} is a training; leave it out")
    else:
        from t2tbuild.report.training_page import write_training_page

        with writing("RUN", run):
            write_training_page(run)
    if as_json:
        print_json({"page": str(run / "report.html"), "data": str(run / "report.json")})
    else:
        stdout().print(str(run / "report.html"), soft_wrap=True, markup=False)
