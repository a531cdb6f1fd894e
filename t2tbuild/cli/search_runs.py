"""t2tbuild search status, resume, export and repair: what there is to do with the run of a search."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.options import Json
from t2tbuild.cli.search import Storage, Workers, as_record, print_result, run_search
from t2tbuild.errors import InputError
from t2tbuild.spec.units import parse_seconds

if TYPE_CHECKING:
    from t2tbuild.nas import SearchResult

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run directory of a search.")]


def status(run: Run, storage: Storage = None, as_json: Json = False) -> None:
    """Show how far a search is: candidates by state, workers, the best so far. It may be under way.

    Example: t2tbuild search status runs/five-giga
    """
    from t2tbuild.nas.run import open_again
    from t2tbuild.nas.status import look_at

    spec, _, opened = open_again(run, storage)
    with opened as studies:
        message = look_at(spec, studies)
    if as_json:
        print_json(message.to_json())
    else:
        for line in message.lines():
            stdout().print(line, soft_wrap=True, markup=False)


def resume(
    run: Run,
    trials: Annotated[int | None, typer.Option(min=1, help="Candidates to train in all; left out, as before.")] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after this long: 5m, 2h; left out, as before.")
    ] = None,
    workers: Workers = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Go on with a search where it stopped; one that is complete is only reported.

    Example: t2tbuild search resume runs/five-giga --trials 64
    """
    from t2tbuild.nas.run import require_study, spec_of

    spec = spec_of(run)
    require_study(run, storage)
    changes: dict[str, object] = {"trials": trials} if trials is not None else {}
    if timeout is not None:
        try:
            changes["timeout"] = parse_seconds(timeout)
        except ValueError as error:
            raise InputError(f"--timeout: {error}") from None
    spec = spec.model_copy(update={"search": spec.search.model_copy(update=changes)})
    run_search(spec, run, workers, storage, as_json=as_json)


def export(run: Run, storage: Storage = None, as_json: Json = False) -> None:
    """Write candidates.csv, best.yaml, its diagram, the front and the reports from what a search holds by now.

    Example: t2tbuild search export runs/five-giga
    """
    from t2tbuild.report.search_page import write_pictures

    result = result_of(run, storage)
    write_pictures(result)
    if as_json:
        print_json(as_record(result))
    else:
        print_result(result)


def result_of(run: Path, storage: str | None) -> SearchResult:
    """What a search holds by now, left in its run directory again."""
    from t2tbuild.nas.run import conclude, open_again
    from t2tbuild.nas.worker import outcome_of

    spec, planned, opened = open_again(run, storage)
    with opened as studies:
        return conclude(run, spec, planned, studies, outcome_of(studies, spec.search))


def repair(run: Run, storage: Storage = None, as_json: Json = False) -> None:
    """Put right what a crash left: trainings without a worker are asked for again, broken files are named.

    Example: t2tbuild search repair runs/five-giga
    """
    from t2tbuild.nas.run import open_again
    from t2tbuild.nas.status import repair as repair_run

    _, _, opened = open_again(run, storage)
    with opened as studies:
        message = repair_run(run, studies)
    if as_json:
        print_json({"repaired": message})
        return
    for line in message or ["nothing to repair"]:
        stdout().print(line, soft_wrap=True, markup=False)
    stderr().print(f"next: {shlex.join(['t2tbuild', 'search', 'resume', str(run)])}", soft_wrap=True)
