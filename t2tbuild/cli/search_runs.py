"""t2tbuild search status, resume, export and repair: commands for the run of a search."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.options import Device, Json
from t2tbuild.cli.search import AllowCommand, Storage, Workers, print_result, result_to_json, run_search
from t2tbuild.cli.search_progress import report_interrupt, resume_command
from t2tbuild.cli.supernet_status import supernet_line, supernet_to_json
from t2tbuild.errors import InputError
from t2tbuild.files import read_json
from t2tbuild.spec.units import parse_seconds

if TYPE_CHECKING:
    from t2tbuild.nas import SearchResult

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run directory of a search.")]


def status(run: Run, storage: Storage = None, as_json: Json = False) -> None:
    """Show the progress of a search, running or not: candidates by state, workers, the best so far.

    Example: t2tbuild search status runs/five-giga
    """
    from t2tbuild.nas.existing_run import find_outcome, reopen_store

    spec, planned, opened = reopen_store(run, storage)

    from t2tbuild.nas.record import Outcome
    from t2tbuild.nas.status import get_status

    with opened as store:
        progress = get_status(spec, store)
        outcome = find_outcome(planned, store)
    is_finished = outcome is not Outcome.UNFINISHED and not progress.waiting and not progress.running
    verdict = _read_verdict(run) if is_finished else None
    supernet = spec.search.supernet
    if as_json:
        ended = {"outcome": str(outcome), "verdict": verdict}
        print_json(progress.to_json() | ended | ({"supernet": supernet_to_json(run, supernet)} if supernet else {}))
        return
    lines = [*progress.lines(), *([supernet_line(run, supernet)] if supernet else [])]
    if is_finished:
        lines.append(f"finished, {outcome}: {verdict or f'write the results with: t2tbuild search export {run}'}")
    elif not progress.running:
        lines.append(f"no training is running; if the search has stopped, continue with: {resume_command(run, spec)}")
    for line in lines:
        stdout().print(line, soft_wrap=True, markup=False)


def _read_verdict(run: Path) -> str | None:
    """Return the verdict of report.json, None where it is not there or damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(read_json(run / "report.json")["verdict"])
    return None


def resume(
    run: Run,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Total number of candidates to train; by default as before.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after this long: 5m, 2h; by default as before.")
    ] = None,
    workers: Workers = None,
    storage: Storage = None,
    device: Device = None,
    allow_command: AllowCommand = False,
    as_json: Json = False,
) -> None:
    """Continue a search where it stopped; a complete search is only reported.

    Example: t2tbuild search resume runs/five-giga --trials 64
    """
    with report_interrupt(run, storage):
        from t2tbuild.nas.existing_run import load_run_spec, require_study

        spec = load_run_spec(run)
    with report_interrupt(run, storage, spec):
        require_study(run, storage)
        if trials is not None and (trained := _count_trained(run, storage)) >= trials:
            stderr().print(describe_no_more_trials(trained, trials), soft_wrap=True, markup=False)
    changes: dict[str, object] = {"trials": trials} if trials is not None else {}
    if timeout is not None:
        try:
            changes["timeout"] = parse_seconds(timeout)
        except ValueError as error:
            raise InputError(f"--timeout: {error}") from None
    spec = spec.model_copy(update={"search": spec.search.model_copy(update=changes)})
    run_search(spec, run, workers, storage, device=device, as_json=as_json, allow_command=allow_command)


def _count_trained(run: Path, storage: str | None) -> int:
    """Return how many candidates of a search were trained."""
    from t2tbuild.nas.existing_run import reopen_store

    _, _, opened = reopen_store(run, storage)
    with opened as store:
        return sum(record.state.trained for record in store.records())


def describe_no_more_trials(trained: int, trials: int) -> str:
    """Return the line for a --trials, the total number, that was reached before."""
    return (
        f"{trained} candidate{' was' if trained == 1 else 's were'} trained already, so --trials {trials} adds none; "
        f"write --trials {trained + trials} for {trials} more"
    )


def export(run: Run, storage: Storage = None, as_json: Json = False) -> None:
    """Write candidates.csv, best.yaml, its diagram, the Pareto front and the reports of the results so far.

    Example: t2tbuild search export runs/five-giga
    """
    result = load_result(run, storage)

    from t2tbuild.report.search_page import write_reports

    write_reports(result)
    if as_json:
        print_json(result_to_json(result))
    else:
        print_result(result)


def load_result(run: Path, storage: str | None) -> SearchResult:
    """Return the results of a search so far, and write them to its run directory."""
    from t2tbuild.nas.existing_run import find_outcome, reopen_store

    spec, planned, opened = reopen_store(run, storage)

    from t2tbuild.nas.conclude import conclude, write_findings  # imports torch, which takes seconds
    from t2tbuild.nas.store.meta import SECONDS

    with opened as store:
        outcome = find_outcome(planned, store)
        findings = conclude(planned, store, outcome)
        return write_findings(run, spec, findings, store, outcome, store.get_meta(SECONDS) or 0.0)


def repair(run: Run, storage: Storage = None, as_json: Json = False) -> None:
    """Repair a search after a crash: queue the trainings of dead workers again, and list invalid checkpoints.

    Example: t2tbuild search repair runs/five-giga
    """
    from t2tbuild.nas.existing_run import load_run_spec, reopen_store, require_study

    load_run_spec(run)  # raises an error for another folder
    require_study(run, storage)

    from t2tbuild.nas.status import repair as repair_run
    from t2tbuild.nas.status import repair_database

    repaired = repair_database(run)
    _, _, opened = reopen_store(run, storage)
    with opened as store:
        repaired += repair_run(run, store)
    if as_json:
        print_json({"repaired": repaired})
        return
    for line in repaired or ["nothing to repair"]:
        stdout().print(line, soft_wrap=True, markup=False)
    stderr().print(f"next: {shlex.join(['t2tbuild', 'search', 'resume', str(run)])}", soft_wrap=True)
