"""SearchSpec -> run directory: start, continue or join a search, and write its results."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from t2tbuild.errors import InputError, SearchError
from t2tbuild.files import redact
from t2tbuild.layout import Grid
from t2tbuild.nas.artifacts import write_artifacts
from t2tbuild.nas.evaluator import Evaluator, measure_latencies
from t2tbuild.nas.importance import compute_importance
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan, plan
from t2tbuild.nas.predicted_verdict import decide_by_prediction, with_latencies
from t2tbuild.nas.proxy import describe_training, resolve_width
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Outcome, Record
from t2tbuild.nas.result import SearchResult
from t2tbuild.nas.sampler import FeasibleSampler
from t2tbuild.nas.storage import open_storage
from t2tbuild.nas.storage_url import DATABASE, is_shared, storage_url
from t2tbuild.nas.store import Studies, open_studies
from t2tbuild.nas.supervisor import supervise
from t2tbuild.nas.test_eval import evaluate_on_test, read_test_results
from t2tbuild.nas.timeline import build_timeline
from t2tbuild.nas.verdict import Verdict, decide
from t2tbuild.nas.worker import Listener, Worker, comparable_records, get_outcome
from t2tbuild.spec.load import load_search_spec
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.search import Search
from t2tbuild.training.data import load_data
from t2tbuild.training.device import pick_device
from t2tbuild.training.run_directory import default_run_directory, open_run
from t2tbuild.training.signals import Interrupt, handle_signals

SECONDS, LATENCIES = "seconds", "latencies"
"""Keys of the study's metadata: the time of all sessions, and the latencies of the winner and its equals."""


def search(
    spec: SearchSpec,
    out: str | Path | None = None,
    *,
    listener: Listener | None = None,
    workers: int = 1,
    storage: str | None = None,
) -> SearchResult:
    """Search the space of `spec` within its budget and write a run directory.

    A study that already exists is continued; with one worker the candidates are those of an uninterrupted search.

    Args:
        spec: The search spec.
        out: The run directory, by default a new one in runs/.
        listener: Called with each existing record of the study at first, then with a record whenever its training
            starts, reaches a rung or ends.
        workers: Number of worker processes. Each gets one of the GPUs, in turn, or an equal share of the CPU cores.
        storage: URL of a PostgreSQL, MySQL or SQLite database. Searches of the same name join there, from any machine.

    Raises:
        InputError: The budget is below the smallest member of the space, `out` holds something else, or the storage
            holds another search of this name.
        SearchError: No candidate reached the highest rung.

    Example:
        >>> import tempfile
        >>> from t2tbuild import load_search_spec
        >>> tiny = ["search.trials=1", "search.proxy.rungs=[1]", "search.proxy.seeds=1", "search.confirm=null"]
        >>> result = search(load_search_spec("deep_narrow", tiny), tempfile.mkdtemp())
        >>> result.winner.macs <= result.spec.search.budget.macs.max
        True
    """
    _require_search_spec(spec)
    started = time.perf_counter()
    on_record: Listener = listener or _ignore
    device = pick_device()
    planned = plan(spec)
    settings = planned.search.model_copy(update={"proxy": resolve_width(spec.search.proxy, device.type)})
    spec, planned = spec.model_copy(update={"search": settings}), replace(planned, search=settings)
    run = Path(out) if out is not None else default_run_directory(settings.name)
    url = storage_url(storage, run)
    deadline = time.monotonic() + (settings.timeout if settings.timeout is not None else float("inf"))
    sampler = FeasibleSampler(settings, planned)
    if is_shared(storage, run):
        open_storage(url, settings).close()  # fails before anything is written
    with (
        _storage_errors(run),
        open_run(run, spec, device, shared=is_shared(storage, run)),
        handle_signals() as interrupt,
        open_studies(url, spec, planned, sampler) as studies,
    ):
        known: dict[tuple[str, int, bool], Record] = {}

        @cache
        def load_evaluator() -> Evaluator:
            return _build_evaluator(settings, planned, device)

        def notify() -> None:
            for record in (*studies.reference_runs(), *studies.records()):
                identity = (record.number, record.seed, record.full)
                if known.get(identity) != record:
                    known[identity] = record
                    on_record(record)

        notify()
        try:
            if workers == 1:
                worker = Worker(
                    studies,
                    sampler,
                    settings,
                    planned,
                    load_evaluator(),
                    run,
                    listener=on_record,
                    interrupt=interrupt,
                    deadline=deadline,
                )
                worker.run()
            else:
                until = time.time() + deadline - time.monotonic()
                supervise(run, url, workers, until, interrupt, notify)
        finally:
            studies.set_meta(SECONDS, (studies.get_meta(SECONDS) or 0.0) + time.perf_counter() - started)
        outcome = get_outcome(studies, settings)
        is_finished = outcome is not Outcome.UNFINISHED
        findings = _analyze(planned, studies)
        if findings.verdict is not None:
            if is_finished and findings.ranking.uses_training:  # the test split is evaluated once, at the end
                evaluate_on_test(run, studies, load_evaluator, findings.verdict)
            _measure_equals(studies, findings.verdict, device)
        outcome = outcome if is_finished else Outcome.TIMEOUT
        return _write_findings(run, spec, findings, studies, outcome)


def _require_search_spec(spec: object) -> None:
    """Raise InputError for anything other than a SearchSpec."""
    if isinstance(spec, SearchSpec):
        return
    hint = "load_search_spec() returns one"
    if isinstance(spec, str | Path):
        hint = f'write search(load_search_spec("{spec}"))'
    elif isinstance(spec, Spec):
        hint = "train() takes a Spec"
    raise InputError(f"search: spec is a {type(spec).__name__}, expected a SearchSpec; {hint}")


@contextmanager
def _storage_errors(run: Path) -> Iterator[None]:
    """Turn an error of a storage that stays unreachable into a SearchError. Stored results are kept."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        reason = redact(str(getattr(error.__cause__, "orig", error)).strip().split("\n", 1)[0])
        message = f"the storage is unreachable: {reason}; continue with: t2tbuild search resume {run}"
        raise SearchError(message) from error


def run_worker(spec: SearchSpec, run: Path, interrupt: Interrupt, *, deadline: float, workers: int) -> None:
    """Run one of several workers in this process. The environment names the storage."""
    planned = plan(spec)
    search = planned.search
    sampler = FeasibleSampler(search, planned)
    with open_studies(storage_url(None, run), spec, planned, sampler) as studies:
        Worker(
            studies,
            sampler,
            search,
            planned,
            _build_evaluator(search, planned, pick_device()),
            run,
            listener=_ignore,
            interrupt=interrupt,
            deadline=deadline,
            workers=workers,
        ).run()


def _ignore(_record: Record) -> None:
    pass


def _build_evaluator(search: Search, planned: Plan, device: torch.device) -> Evaluator:
    """Load the proxy's data and build the evaluator for a device."""
    shape = search.proxy.image_shape(planned.base)
    data = load_data(search.proxy.data, image=Grid(*shape), in_chans=planned.base.in_chans, device=device)
    return Evaluator(search, data, device)


@dataclass(frozen=True)
class _Findings:
    """The records of the studies, their ranking, and the verdict on them."""

    records: tuple[Record, ...]
    reference_runs: tuple[Record, ...]
    ranking: Ranking
    verdict: Verdict | None


def _analyze(planned: Plan, studies: Studies) -> _Findings:
    """Read the studies and decide on the winner."""
    records, reference_runs, search = tuple(studies.records()), tuple(studies.reference_runs()), planned.search
    ranking = Ranking(search, comparable_records(records, reference_runs))
    if search.target == "data":
        verdict = decide(records, reference_runs, search.proxy.metric)
    else:
        verdict = decide_by_prediction(records, reference_runs, planned, ranking)
    return _Findings(records, reference_runs, ranking, verdict)


def _measure_equals(studies: Studies, verdict: Verdict, device: torch.device) -> None:
    """Measure the latencies of the winner, the base and the winner's equals side by side, once."""
    if verdict.prediction is None or verdict.winner.model is None:
        return
    base = [one.model for one in studies.reference_runs()[:1] if one.model is not None]
    models = [verdict.winner.model, *base, *(one.model for one in verdict.prediction.equals)]
    by_key = {key_of(model): model for model in models}
    known = studies.get_meta(LATENCIES) or {}
    if by_key.keys() <= known.keys():
        return
    measured = measure_latencies(list(by_key.values()), device)
    studies.set_meta(LATENCIES, known | dict(zip(by_key, measured, strict=True)))


def write_results(run: Path, spec: SearchSpec, planned: Plan, studies: Studies, outcome: Outcome) -> SearchResult:
    """Write candidates.csv, best.yaml, the front and report.json from the current state of the studies.

    Raises SearchError when no candidate reached the highest rung.
    """
    return _write_findings(run, spec, _analyze(planned, studies), studies, outcome)


def _write_findings(
    run: Path, spec: SearchSpec, findings: _Findings, studies: Studies, outcome: Outcome
) -> SearchResult:
    records, reference_runs, latencies = findings.records, findings.reference_runs, studies.get_meta(LATENCIES) or {}
    if findings.verdict is None or findings.verdict.winner.model is None:
        raise SearchError(_describe_no_winner(run, outcome, [*reference_runs, *records]))
    verdict = with_latencies(findings.verdict, latencies, spec.search.budget.latency)
    result = SearchResult(
        run=run,
        spec=spec,
        best=Spec(version=1, model=findings.verdict.winner.model),
        verdict=verdict,
        base=next(record for record in reference_runs if record.number == BASE),
        records=records,
        reference_runs=reference_runs,
        outcome=outcome,
        trained_as=describe_training(spec.search.proxy, "cpu"),  # the width is resolved, so no device matters
        ranking=findings.ranking,
        test=read_test_results(studies),
        seconds=studies.get_meta(SECONDS) or 0.0,
        latencies=latencies,
        spans=tuple(build_timeline(studies)),
        importance=compute_importance(studies, spec.search.proxy.metric),
    )
    write_artifacts(result)
    return result


def load_run_spec(run: Path) -> SearchSpec:
    """Load the spec of a search's run directory. Raises InputError when there is none."""
    path = run / "spec.yaml"
    if not path.is_file():
        raise InputError(
            f"{run}: not the run directory of a search: it has no spec.yaml; name the --out folder of a search"
        )
    return load_search_spec(path)


def require_study(run: Path, storage: str | None) -> None:
    """Raise InputError when the study is neither in the run directory nor in a named storage."""
    if not is_shared(storage, run) and not (run / DATABASE).exists():
        raise InputError(f"{run}: holds no {DATABASE}; name the storage of this search with --storage")


def reopen_studies(run: Path, storage: str | None) -> tuple[SearchSpec, Plan, Studies]:
    """Open the studies of an existing run directory. Raises InputError when there are none."""
    spec = load_run_spec(run)
    require_study(run, storage)
    planned = plan(spec)
    spec = spec.model_copy(update={"search": planned.search})
    sampler = FeasibleSampler(planned.search, planned)
    return spec, planned, open_studies(storage_url(storage, run), spec, planned, sampler, new=False)


def _describe_no_winner(run: Path, outcome: Outcome, records: Sequence[Record]) -> str:
    if outcome in (Outcome.TIMEOUT, Outcome.UNFINISHED):
        when = "in time" if outcome is Outcome.TIMEOUT else "so far"
        return f"{run}: no candidate reached the highest rung {when}; continue with: t2tbuild search resume {run}"
    reasons = Counter(record.reason or str(record.state) for record in records)
    message = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5))
    return f"{run}: no candidate reached the highest rung: {message}"
