"""SearchSpec -> run directory: start, continue or join a search, and run its workers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from t2tbuild.bench import measure_command
from t2tbuild.errors import InputError
from t2tbuild.nas.conclude import conclude, measure_equals, write_findings
from t2tbuild.nas.evaluator import Evaluator, EvaluatorFunction, name_of
from t2tbuild.nas.evaluator_function import load_function
from t2tbuild.nas.existing_run import find_outcome, require_evaluator, require_same_images
from t2tbuild.nas.forecast import announce
from t2tbuild.nas.latency_check import checked_latencies
from t2tbuild.nas.latency_meter import make_meter
from t2tbuild.nas.notifier import make_notifier
from t2tbuild.nas.plan import Plan, plan
from t2tbuild.nas.proxy import has_own_data, own_data_errors, resolve_width, with_proxy_data
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator, make_evaluator
from t2tbuild.nas.record import Outcome, Record
from t2tbuild.nas.result import SearchResult
from t2tbuild.nas.sampler import CandidateSampler
from t2tbuild.nas.store.database import close, open_database, storage_errors
from t2tbuild.nas.store.meta import SECONDS
from t2tbuild.nas.store.open import open_store
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.store.url import is_shared, storage_url
from t2tbuild.nas.supernet.phase import run_supernet
from t2tbuild.nas.supernet.progress import PhaseProgress
from t2tbuild.nas.supernet.proposals import read_proposals
from t2tbuild.nas.supervisor import grace_of, supervise
from t2tbuild.nas.test_eval import evaluate_on_test
from t2tbuild.nas.worker import Listener, Worker
from t2tbuild.spec.data import has_test_images
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.search import Search
from t2tbuild.training.data.image_cache import CacheCallbacks, CacheProgress
from t2tbuild.training.data.python_datasets import LabelledImages, PythonDatasets
from t2tbuild.training.dataset_paths import count_training_classes
from t2tbuild.training.device import default_device, pick_device
from t2tbuild.training.reports import Notice
from t2tbuild.training.run_directory import default_run_directory, open_run
from t2tbuild.training.signals import Interrupt, handle_signals

OnProgress = Callable[[CacheProgress | Notice | PhaseProgress], None]
"""What a search reports besides its records: the progress of its cache of images and of its supernet, and notices."""


def search(
    spec: SearchSpec,
    out: str | Path | None = None,
    *,
    listener: Listener | None = None,
    on_progress: OnProgress | None = None,
    workers: int = 1,
    storage: str | None = None,
    evaluator: EvaluatorFunction | None = None,
    device: str | None = None,
    data: PythonDatasets | Sequence[LabelledImages] | None = None,
    allow_command: bool = False,
) -> SearchResult:
    """Search the space of `spec` within its budget and write a run directory.

    A study that already exists is continued; with one worker the candidates are those of an uninterrupted search.

    Args:
        spec: The search spec.
        out: The run directory, by default a new one in runs/.
        listener: Called with each existing record of the study at first, then with a record whenever its training
            starts, reaches a rung or ends.
        on_progress: Called with the progress of decoding images into the cache, and with notices, such as the forecast
            of the search by a timed step of the base, which is made for it alone.
        workers: Number of worker processes. Each gets one of the GPUs, in turn, or an equal share of the CPU cores.
        storage: URL of a PostgreSQL, MySQL or SQLite database. Searches of the same name join there, from any machine.
        evaluator: Your own evaluation of a candidate, in place of proxy training: a function of a Candidate and a
            number of training steps that returns a validation accuracy or a mapping of measurements. It needs
            `workers=1`; a function that `search.evaluator` names works with any number.
        data: Your own datasets of (image, label), as (train_set, val_set) or (train_set, val_set, test_set), in place
            of the proxy's data. They need `workers=1`.
        device: cpu, cuda, cuda:N or mps, for every worker; without it each has a GPU of its own, where there are any.
        allow_command: Allow the command of `search.budget.latency`, which is code that the spec brings along.

    Raises:
        InputError: The budget is below the smallest member of the space or every smaller base, no candidate is within
            the latency limit, its command is not allowed, `search.evaluator` cannot be loaded, `out` holds something
            else, or the storage holds another search of this name.
        SearchError: No candidate could be trained, the database stays unreachable, or the disk refuses a write.

    Example:
        >>> import tempfile
        >>> from t2tbuild import load_search_spec
        >>> tiny = ["search.trials=1", "search.proxy.rungs=[1]", "search.proxy.seeds=1", "search.confirm=null"]
        >>> result = search(load_search_spec("lite", tiny), tempfile.mkdtemp())
        >>> result.winner.macs <= result.spec.search.budget.macs.max
        True
    """
    _require_search_spec(spec)
    started = time.perf_counter()
    on_record: Listener = listener or _ignore
    chosen, datasets = pick_device(device), None if data is None else PythonDatasets.of(data)
    spec, planned = _plan(spec, chosen, datasets, has_evaluator=evaluator is not None)
    settings = planned.search
    run = Path(out) if out is not None else default_run_directory(settings.name)
    _require_inputs(settings, run, workers, datasets, evaluator)
    url = storage_url(storage, run)
    deadline = time.monotonic() + (settings.timeout if settings.timeout is not None else float("inf"))
    sampler = CandidateSampler(settings, planned)
    if is_shared(storage, run):
        close(open_database(url, settings))  # fails before anything is written
    is_ours, limit = evaluator is None and settings.evaluator is None, settings.budget.latency
    with (
        storage_errors(run),
        measure_command.allow_command(limit.command if allow_command and limit is not None else None),
        checked_latencies(planned, run, chosen, on_progress or _ignore, is_ours=is_ours) as checked,
        open_run(run, spec, chosen, shared=is_shared(storage, run)),
        handle_signals() as interrupt,
        open_store(url, spec, planned, sampler) as store,
    ):
        require_evaluator(store, "" if evaluator is None else name_of(evaluator))
        for key, value in checked.values.items():
            store.keep_meta(key, value)
        callbacks = _make_callbacks(on_progress or _ignore, interrupt)
        load_evaluator = cache(
            lambda: make_evaluator(
                planned, chosen, evaluator, run=run, callbacks=callbacks, datasets=datasets, store=store
            )
        )
        known: dict[tuple[str, int, bool], Record] = {}
        notify = make_notifier(store, on_record, known)
        notify()
        try:
            is_complete = find_outcome(planned, store) is not Outcome.UNFINISHED  # then it is only reported
            if not is_complete and (has_own_data(settings.proxy) or settings.proxy.preset is not None):
                own = load_evaluator()  # the images are cached before several workers start
                if isinstance(own, ProxyEvaluator):
                    require_same_images(store, getattr(own.data, "fingerprint", ""))
                if on_progress is not None and isinstance(own, ProxyEvaluator):
                    announce(own, planned, workers, callbacks, started=started, is_new=not known)
            if not is_complete and settings.supernet is not None:
                with default_device(device):
                    run_supernet(
                        planned,
                        run,
                        load_evaluator(),
                        store,
                        callbacks.check,
                        on_progress or _ignore,
                        deadline,
                        workers,
                    )
                sampler.proposals = read_proposals(store, planned)
            if not is_complete and workers == 1:
                own = load_evaluator()
                worker = Worker(
                    store, sampler, own, planned, run, listener=on_record, interrupt=interrupt, deadline=deadline
                )
                worker.run()
            elif not is_complete:
                with default_device(device):
                    supervise(run, url, workers, deadline, interrupt, notify, grace_of(settings.timeout))
        finally:
            store.set_meta(SECONDS, (store.get_meta(SECONDS) or 0.0) + time.perf_counter() - started)
        return _write_result(run, spec, planned, store, load_evaluator if is_ours else None, chosen)


def _plan(
    spec: SearchSpec, device: torch.device, datasets: PythonDatasets | None, *, has_evaluator: bool
) -> tuple[SearchSpec, Plan]:
    """Return the spec with its data, target and proxy width resolved, and its plan."""
    if datasets is not None:
        spec = with_proxy_data(spec, datasets.describe(spec.search.proxy.data))
    planned = plan(spec, has_evaluator=has_evaluator)
    settings = planned.search.model_copy(update={"proxy": resolve_width(planned.search.proxy, device.type)})
    return spec.model_copy(update={"search": settings}), replace(planned, search=settings)


def _require_inputs(
    settings: Search, run: Path, workers: int, datasets: PythonDatasets | None, evaluator: EvaluatorFunction | None
) -> None:
    """Raise InputError or FieldError, before anything is written, for what the workers of a search could not load.

    An existing run may be complete; then it needs neither its evaluator nor its data.
    """
    if datasets is not None and workers > 1:
        raise InputError("search: data of a Python program need workers=1; use a folder or a CSV file for more")
    if evaluator is not None and workers > 1:
        raise InputError("search: evaluator needs workers=1; name the function in search.evaluator to use more")
    if evaluator is not None and settings.supernet is not None:
        raise InputError("search: an evaluator knows no inherited weights; remove search.supernet, or evaluator")
    if evaluator is not None or (run / "spec.yaml").exists():
        return
    if settings.evaluator is not None:
        load_function(settings.evaluator)
    else:
        with own_data_errors():
            count_training_classes(settings.proxy.data)


def _write_result(
    run: Path,
    spec: SearchSpec,
    planned: Plan,
    store: Store,
    load_evaluator: Callable[[], Evaluator] | None,
    device: torch.device,
) -> SearchResult:
    """Decide on the winner, and write the results. With our own evaluator, a finished search is tested, once."""
    outcome, search = find_outcome(planned, store), planned.search
    is_finished = outcome is not Outcome.UNFINISHED
    outcome = outcome if is_finished else Outcome.TIMEOUT
    findings = conclude(planned, store, outcome)
    if findings.verdict is not None:
        is_tested = is_finished and findings.ranking.uses_training and has_test_images(search.proxy.data)
        if load_evaluator is not None and is_tested:
            own = load_evaluator()
            assert isinstance(own, ProxyEvaluator)
            evaluate_on_test(run, store, own, findings.verdict)
        measure_equals(store, findings.verdict, device, make_meter(planned, device, store))
    return write_findings(run, spec, findings, store, outcome, store.get_meta(SECONDS) or 0.0)


def _make_callbacks(on_progress: OnProgress, interrupt: Interrupt) -> CacheCallbacks:
    """Return what the cache of images calls: `on_progress`, and a check that raises after a signal."""

    def check() -> None:
        if interrupt:
            raise interrupt.exception()

    return CacheCallbacks(report=on_progress, check=check, notice=lambda text: on_progress(Notice(text)))


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


def _ignore(_event: object) -> None:
    pass
