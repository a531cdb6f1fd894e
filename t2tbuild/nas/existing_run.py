"""Run directory of a search -> its spec, store and outcome, for commands that must answer before torch is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from t2tbuild.errors import InputError
from t2tbuild.nas.plan import Plan, plan
from t2tbuild.nas.record import BASE, Outcome
from t2tbuild.nas.scheduler import outcome_of
from t2tbuild.nas.store.meta import DATA, EVALUATOR, EXHAUSTED
from t2tbuild.nas.store.url import DATABASE, is_shared, storage_url
from t2tbuild.spec.load import load_search_spec
from t2tbuild.spec.root import SearchSpec
from t2tbuild.training.run_directory import require_same_extensions, require_same_spec

if TYPE_CHECKING:
    from t2tbuild.nas.store.store import Store


def load_run_spec(run: Path) -> SearchSpec:
    """Load the spec of a search's run directory. Raises InputError when there is none."""
    path = run / "spec.yaml"
    if not path.is_file():
        raise InputError(
            f"{run}: not the run directory of a search: it has no spec.yaml; name the --out folder of a search"
        )
    return load_search_spec(path)


def require_same_search(run: Path, spec: SearchSpec) -> None:
    """Raise InputError where a run directory holds another search than `spec`, before torch is loaded.

    The width of the proxy may still be `auto` in `spec`, which the run has resolved.
    """
    path = run / "spec.yaml"
    if not path.is_file() or not (run / DATABASE).exists():
        return
    require_same_extensions(run, spec)
    stored = load_search_spec(path)
    if spec.search.proxy.width == "auto":
        proxy = spec.search.proxy.model_copy(update={"width": stored.search.proxy.width})
        spec = spec.model_copy(update={"search": spec.search.model_copy(update={"proxy": proxy})})
    require_same_spec(run, stored, spec)


def require_study(run: Path, storage: str | None) -> None:
    """Raise InputError when the study is neither in the run directory nor in a named storage."""
    if not is_shared(storage, run) and not (run / DATABASE).exists():
        raise InputError(f"{run}: holds no {DATABASE}; name the storage of this search with --storage")


def reopen_store(run: Path, storage: str | None) -> tuple[SearchSpec, Plan, Store]:
    """Open the store of an existing run directory. Raises InputError when there is none."""
    spec = load_run_spec(run)
    require_study(run, storage)

    from t2tbuild.nas.sampler import CandidateSampler  # imports Optuna, which takes a second
    from t2tbuild.nas.store.open import open_store

    planned = plan(spec, to_read=True)
    spec = spec.model_copy(update={"search": planned.search})
    sampler = CandidateSampler(planned.search, planned)
    store = open_store(storage_url(storage, run), spec, planned, sampler, new=False)
    bases = [one.model for one in store.reference_runs() if one.number == BASE and one.model is not None]
    return spec, replace(planned, base=(bases or [planned.base])[0]), store


def find_outcome(planned: Plan, store: Store) -> Outcome:
    """Return how a search ended, by its store."""
    found = store.snapshot()
    exhausted = bool(store.get_meta(EXHAUSTED))
    return outcome_of(planned.search, found.records, found.reference_runs, exhausted=exhausted)


def require_evaluator(store: Store, name: str) -> None:
    """Store the name of the function that evaluates a new search. Raises InputError where it was another one."""
    stored = store.get_meta(EVALUATOR)
    if stored is None and not store.snapshot().records:
        store.set_meta(EVALUATOR, name)
    elif (stored or "") != name:
        before, now = stored or "proxy training", name or "proxy training"
        message = f"this search evaluates its candidates by {before}, not by {now}"
        raise InputError(f"{message}; pass the same evaluator to t2tbuild.search, or choose another search.name")


def require_same_images(store: Store, fingerprint: str) -> None:
    """Store the fingerprint of a new search's images. Raises InputError where they have changed since it began."""
    stored = store.get_meta(DATA)
    if stored is None:
        store.set_meta(DATA, fingerprint)
    elif stored != fingerprint:
        message = "the images have changed since this search began, so that results of before and after do not compare"
        raise InputError(f"{message}; choose another --out, or restore the images")
