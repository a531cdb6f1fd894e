"""Open the store of a search: create its studies, or join existing ones of the same spec and base."""

import warnings
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection as Direction
from optuna.trial import TrialState
from pydantic import ValidationError

from t2tbuild.errors import InputError, SpecError
from t2tbuild.files import redact
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.record import Record, Source, State
from t2tbuild.nas.sampler import CandidateSampler, directions_of
from t2tbuild.nas.store.database import close, damaged_values, open_database
from t2tbuild.nas.store.lock import search_lock
from t2tbuild.nas.store.retry import retried
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.store.trials import RECORD, Kind
from t2tbuild.spec.diagnostics.yaml_source import read_text
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import SearchSpec
from t2tbuild.training.run_directory import resume_identity, spec_diff

SPEC, BASE = "spec", "base"


def open_store(
    url: str, spec: SearchSpec, plan: Plan, sampler: CandidateSampler, *, new: bool = True, patient: bool = False
) -> Store:
    """Create the store of a search, or join an existing one. With `new=False` it must exist.

    It is then only read, and its base may be one that this version would scale. With `patient`, a database that cannot
    be reached is waited for. Raises InputError when the database cannot be opened, when it holds a search of this name
    with another spec or base, and with `new=False` when it holds none of this name.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_database(url, spec.search, patient=patient)
    try:
        return _join(url, storage, spec, plan, sampler, new=new)
    except BaseException:
        close(storage)
        raise


@retried
@damaged_values()
def _join(
    url: str, storage: RDBStorage, spec: SearchSpec, plan: Plan, sampler: CandidateSampler, *, new: bool
) -> Store:
    search = spec.search
    if not new and search.name not in optuna.get_all_study_names(storage):
        message = f"the storage {redact(url)} has no search named {search.name}"
        raise InputError(f"{message}; name the right one with --storage")
    with search_lock(url):
        candidates = _open_study(search.name, storage, directions_of(search))
        references = _open_study(f"{search.name}.references", storage, [Direction.MAXIMIZE])
        store = Store(url, storage, search, {Kind.CANDIDATE: candidates, Kind.REFERENCE: references})
        _check_identity(candidates, spec, plan, to_read=not new)
        _convert_named(candidates, storage, plan)
        store.add_named([(_named_record(model), params) for model, params in plan.enqueued], sampler)
    return store


def _open_study(name: str, storage: RDBStorage, directions: Sequence[Direction]) -> optuna.Study:
    sampler, pruner = RandomSampler(seed=0), NopPruner()  # CandidateSampler draws, and the scheduler prunes
    if name in optuna.get_all_study_names(storage):  # which also a read-only database answers
        return optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
    return optuna.create_study(
        storage=storage, sampler=sampler, pruner=pruner, study_name=name, directions=directions, load_if_exists=True
    )


def _named_record(model: ModelSpec) -> Record:
    return Record(model.name, State.RUNNING, model, key=key_of(model), source=Source.NAMED)


def _convert_named(study: optuna.Study, storage: RDBStorage, plan: Plan) -> None:
    """Add the record of models that an earlier version queued by their names."""
    models = {model.name: model for model, _ in plan.enqueued}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        model = models.get(trial.user_attrs.get("named", ""))
        if RECORD not in trial.user_attrs and model is not None:
            storage.set_trial_user_attr(trial._trial_id, RECORD, _named_record(model).to_json())


def _check_identity(study: optuna.Study, spec: SearchSpec, plan: Plan, *, to_read: bool) -> None:
    """Store the spec and base in a new study, or compare them. Raises InputError where they differ.

    A search that is only read may have a base over the budget, which earlier versions did not scale.
    """
    base, named, name = plan.base, plan.space.base, spec.search.name
    now = _identity_of(spec, base)
    for key, value in now.items():
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
    stored = {SPEC: _with_new_names(study.user_attrs[SPEC]), BASE: study.user_attrs[BASE]}
    if stored[SPEC] == now[SPEC] and (to_read or _key_of_stored(stored[BASE]) == key_of(base)):
        return
    if stored == _identity_of(spec, named):
        if to_read:
            return
        message = f"the search {name} began with the base {named.name}, over its budget of {spec.search.budget.summary}"
        message += f"; this version trains {base.name} in its place, so it cannot continue the search"
        raise InputError(f"{message}; t2tbuild search export RUN still reads it; or choose another search.name")
    if stored[SPEC] != now[SPEC]:
        lines = spec_diff(stored[SPEC], now[SPEC])
        raise InputError(f"the storage has another search named {name}; choose another search.name\n{lines}")
    raise InputError(f"the base {base.name} has changed since the search {name} began; choose another search.name")


def _identity_of(spec: SearchSpec, base: ModelSpec) -> dict[str, Any]:
    """Return what two searches of one name must share; it is the same on machines with other paths."""
    portable = spec.search.model_copy(update={"base": base.name, "enqueue": tuple(map(_stem, spec.search.enqueue))})
    return {
        SPEC: resume_identity(spec.model_copy(update={"search": portable})),
        BASE: base.model_dump(mode="json"),
    }


def _key_of_stored(base: dict[str, Any]) -> str:
    """Return the key of a stored base, which versions may spell differently; empty where it is no longer valid."""
    try:
        return key_of(ModelSpec.model_validate(base))
    except ValidationError:
        return ""


def _with_new_names(text: str) -> str:
    """Return a stored spec with the current names of fields that an earlier version stored under their old names."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return resume_identity(SearchSpec.model_validate(read_text(text, "the stored spec").data))
    except (ValidationError, SpecError):
        return text


def _stem(name: str) -> str:
    return PurePath(name).stem
