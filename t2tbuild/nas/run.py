"""SearchSpec -> run directory: the whole of a search, new, continued or joined."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from t2tbuild.errors import InputError, SearchError
from t2tbuild.files import redact
from t2tbuild.layout import Grid
from t2tbuild.nas.artifacts import leave, report_of
from t2tbuild.nas.evaluator import Evaluator, measure_latencies
from t2tbuild.nas.importance import Importance, importance
from t2tbuild.nas.plan import Plan, plan
from t2tbuild.nas.predicted_verdict import decide_by_prediction
from t2tbuild.nas.proxy import describe, settle
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Record, State, key_of
from t2tbuild.nas.sampler import FeasibleSampler
from t2tbuild.nas.storage import connect
from t2tbuild.nas.storage_url import DATABASE, is_shared, storage_url
from t2tbuild.nas.store import Studies, open_studies
from t2tbuild.nas.supervisor import supervise
from t2tbuild.nas.test_eval import TEST, look_at_test
from t2tbuild.nas.timeline import Span, timeline
from t2tbuild.nas.verdict import Verdict, decide
from t2tbuild.nas.worker import Listener, Outcome, Worker, outcome_of, ranked_together
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.load import load_search_spec
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.search import Search
from t2tbuild.training.data import load_data
from t2tbuild.training.device import pick_device
from t2tbuild.training.run_directory import default_folder, open_run
from t2tbuild.training.signals import Interrupt, listening

SECONDS, LATENCIES = "seconds", "latencies"
"""Under what the studies keep how long the search took so far, and the latencies of the winner and its equals."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found. `best` is the winner's spec, also at `run`/best.yaml.

    `records` are the candidates, `repeats` the base's trainings and the confirmations, `ranking` ranks them. `outcome`
    says how it ended, `trained_as` in words what was trained, `test` what the winner and the base showed on the test
    split, `seconds` how long the searches took together that worked on it, `latencies` the measured seconds of the
    winner and its equals, `spans` who trained what when, and `importance` which fields mattered.
    """

    run: Path
    spec: SearchSpec
    best: Spec
    verdict: Verdict
    base: Record
    records: tuple[Record, ...]
    repeats: tuple[Record, ...]
    outcome: Outcome
    trained_as: str
    ranking: Ranking
    test: dict[str, Any] | None
    seconds: float
    latencies: Mapping[str, float | None] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    importance: Importance | None = None

    @cached_property
    def report(self) -> dict[str, Any]:
        """Everything that report.json holds."""
        return report_of(self)

    @property
    def winner(self) -> Record:
        return self.verdict.winner

    @property
    def budget(self) -> Budget:
        return self.spec.search.budget

    @property
    def asked(self) -> int:
        """Candidates asked for, the base not counted."""
        return len(self.records)

    def count(self, *states: State) -> int:
        """Candidates in any of the given states, the base not counted."""
        tally = Counter(record.state for record in self.records)
        return sum(tally[state] for state in states)


def search(
    spec: SearchSpec,
    out: str | Path | None = None,
    *,
    listener: Listener | None = None,
    workers: int = 1,
    storage: str | None = None,
) -> SearchResult:
    """Search the space of `spec` within its budget and leave a run directory at `out`, by default a new one in runs/.

    A study that is already there is continued: one worker asks for the candidates of an unbroken search. With
    `storage`, a URL of PostgreSQL, MySQL or SQLite, searches of the same name join, from any machine. With several
    `workers`, each is a process: on the GPUs in turn, or with its share of the CPU's cores. `listener` hears of each
    training already in the study, and of each new one when it starts, at every rung, and when it ends.

    Raises InputError when the budget lies below the smallest member of the space, when `out` holds something else or
    the storage another search of this name, and SearchError when nothing reached the top rung.

        >>> import tempfile
        >>> from t2tbuild import load_search_spec
        >>> tiny = ["search.trials=1", "search.proxy.rungs=[1]", "search.proxy.seeds=1", "search.confirm=null"]
        >>> result = search(load_search_spec("deep_narrow", tiny), tempfile.mkdtemp())
        >>> result.winner.macs <= result.spec.search.budget.macs.max
        True
    """
    started = time.perf_counter()
    hear: Listener = listener or (lambda _record: None)
    device = pick_device()
    planned = plan(spec)
    what = planned.search.model_copy(update={"proxy": settle(spec.search.proxy, device.type)})
    spec, planned = spec.model_copy(update={"search": what}), replace(planned, search=what)
    run = Path(out) if out is not None else default_folder(what.name)
    url = storage_url(storage, run)
    deadline = time.monotonic() + (what.timeout if what.timeout is not None else float("inf"))
    sampler = FeasibleSampler(what, planned)
    if is_shared(storage, run):
        connect(url, what).close()  # before anything is written
    with (
        _storage_errors(run),
        open_run(run, spec, device, shared=is_shared(storage, run)),
        listening() as interrupt,
        open_studies(url, spec, planned, sampler) as studies,
    ):
        message: dict[tuple[str, int, bool], Record] = {}

        @cache
        def judges() -> Evaluator:
            return _judges(what, planned, device)

        def look() -> None:
            for record in (*studies.repeats(), *studies.records()):
                place = (record.number, record.seed, record.full)
                if message.get(place) != record:
                    message[place] = record
                    hear(record)

        look()
        try:
            if workers == 1:
                worker = Worker(
                    studies,
                    sampler,
                    what,
                    planned,
                    judges(),
                    run,
                    listener=hear,
                    interrupt=interrupt,
                    deadline=deadline,
                )
                worker.run()
            else:
                until = time.time() + deadline - time.monotonic()
                supervise(run, url, workers, until, interrupt, look)
        finally:
            studies.note(SECONDS, (studies.noted(SECONDS) or 0.0) + time.perf_counter() - started)
        outcome = outcome_of(studies, what)
        unfinished = outcome is Outcome.UNFINISHED
        verdict = _decide(planned, studies)
        if verdict is not None:
            if not unfinished and Ranking(what, ()).training_counts:  # it is evaluated once, at the end
                look_at_test(run, studies, judges, verdict)
            _note_latencies(studies, verdict, device)
        return conclude(run, spec, planned, studies, Outcome.TIMEOUT if unfinished else outcome)


@contextmanager
def _storage_errors(run: Path) -> Iterator[None]:
    """A storage that stays away ends a search with one message; nothing that was told to it is lost."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        reason = redact(str(getattr(error.__cause__, "orig", error)).strip().split("\n", 1)[0])
        told = f"the storage is gone: {reason}; continue with: t2tbuild search resume {run}"
        raise SearchError(told) from error


def work(spec: SearchSpec, run: Path, interrupt: Interrupt, *, deadline: float, workers: int) -> None:
    """Do the share of one of several workers, in this process; the environment names the storage."""
    planned = plan(spec)
    search = planned.search
    sampler = FeasibleSampler(search, planned)
    with open_studies(storage_url(None, run), spec, planned, sampler) as studies:
        Worker(
            studies,
            sampler,
            search,
            planned,
            _judges(search, planned, pick_device()),
            run,
            listener=_deaf,
            interrupt=interrupt,
            deadline=deadline,
            workers=workers,
        ).run()


def _deaf(_record: Record) -> None:
    pass


def _judges(search: Search, planned: Plan, device: torch.device) -> Evaluator:
    """The judges on a device, their data loaded."""
    side = search.proxy.side(planned.base)
    data = load_data(search.proxy.data, image=Grid(*side), in_chans=planned.base.in_chans, device=device)
    return Evaluator(search, data, device)


def _decide(planned: Plan, studies: Studies) -> Verdict | None:
    """The verdict on what the studies hold by now."""
    records, repeats, search = studies.records(), studies.repeats(), planned.search
    if search.target == "data":
        return decide(records, repeats, search.proxy.metric)
    ranking = Ranking(search, ranked_together(records, repeats))
    return decide_by_prediction(records, repeats, planned, ranking, studies.noted(LATENCIES) or {})


def _note_latencies(studies: Studies, verdict: Verdict, device: torch.device) -> None:
    """Measure the winner, the base and the equals side by side, so that there is something to choose by."""
    if verdict.prediction is None or verdict.winner.model is None:
        return
    base = [one.model for one in studies.repeats()[:1] if one.model is not None]
    models = [verdict.winner.model, *base, *(one.model for one in verdict.prediction.equals)]
    by_key = {key_of(model): model for model in models}
    known = studies.noted(LATENCIES) or {}
    if by_key.keys() <= known.keys():
        return
    measured = measure_latencies(list(by_key.values()), device)
    studies.note(LATENCIES, known | dict(zip(by_key, measured, strict=True)))


def conclude(run: Path, spec: SearchSpec, planned: Plan, studies: Studies, outcome: Outcome) -> SearchResult:
    """Leave in the run directory what the studies hold by now: candidates.csv, best.yaml, the front and report.json.

    Raises SearchError when nothing reached the highest rung.
    """
    records, repeats = tuple(studies.records()), tuple(studies.repeats())
    verdict = _decide(planned, studies)
    trained_as = describe(spec.search.proxy, "cpu")  # its width is settled
    if verdict is None or verdict.winner.model is None:
        raise SearchError(_no_winner(run, outcome, [*repeats, *records]))
    result = SearchResult(
        run=run,
        spec=spec,
        best=Spec(version=1, model=verdict.winner.model),
        verdict=verdict,
        base=next(record for record in repeats if record.number == BASE),
        records=records,
        repeats=repeats,
        outcome=outcome,
        trained_as=trained_as,
        ranking=Ranking(planned.search, ranked_together(records, repeats)),
        test=studies.noted(TEST),
        seconds=studies.noted(SECONDS) or 0.0,
        latencies=studies.noted(LATENCIES) or {},
        spans=tuple(timeline(studies)),
        importance=importance(studies, spec.search.proxy.metric),
    )
    leave(result)
    return result


def spec_of(run: Path) -> SearchSpec:
    """The spec of a search's run directory. Raises InputError when it holds none."""
    path = run / "spec.yaml"
    if not path.is_file():
        raise InputError(f"{run}: no run of a search, which has a spec.yaml")
    return load_search_spec(path)


def require_study(run: Path, storage: str | None) -> None:
    """Raises InputError when the study of a run directory is neither in it nor named."""
    if not is_shared(storage, run) and not (run / DATABASE).exists():
        raise InputError(f"{run}: holds no {DATABASE}; name the storage of this search with --storage")


def open_again(run: Path, storage: str | None) -> tuple[SearchSpec, Plan, Studies]:
    """The studies of a run directory as they stand. Raises InputError when there are none."""
    spec = spec_of(run)
    require_study(run, storage)
    planned = plan(spec)
    spec = spec.model_copy(update={"search": planned.search})
    sampler = FeasibleSampler(planned.search, planned)
    return spec, planned, open_studies(storage_url(storage, run), spec, planned, sampler, new=False)


def _no_winner(run: Path, outcome: Outcome, records: Sequence[Record]) -> str:
    if outcome in (Outcome.TIMEOUT, Outcome.UNFINISHED):
        why = "in time" if outcome is Outcome.TIMEOUT else "so far"
        return f"{run}: no candidate reached the top rung {why}; continue with: t2tbuild search resume {run}"
    reasons = Counter(record.reason or str(record.state) for record in records)
    message = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5))
    return f"{run}: no candidate reached the top rung: {message}"
