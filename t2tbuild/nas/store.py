"""The two Optuna studies of a search: candidates, which a sampler draws, and references, trained with several seeds.

Reference runs (of the base, and at the end of the best and of random candidates) must not influence the sampler, so
they have a study of their own in the same storage. The record of a training is a user attribute of its trial and is
updated at every rung, so that every worker sees the current state.
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection as Direction
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from t2tbuild.errors import InputError, SpecError
from t2tbuild.files import redact
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.record import BASE as BASE_NUMBER
from t2tbuild.nas.record import Record
from t2tbuild.nas.storage import RECORD, RetryingStorage, creation_lock, open_storage
from t2tbuild.spec.diagnostics.yaml_source import read_text
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import SearchSpec
from t2tbuild.spec.search import Search
from t2tbuild.training.run_directory import resume_identity, spec_diff

SPEC, BASE = "spec", "base"


class Studies:
    """The studies of candidates and references in one storage, which is closed at the end of a `with`."""

    def __init__(self, url: str, storage: RetryingStorage, candidates: optuna.Study, references: optuna.Study) -> None:
        self.url, self.storage, self.candidates, self.references = url, storage, candidates, references
        self._parsed: dict[int, Record] = {}

    def __enter__(self) -> "Studies":
        return self

    def __exit__(self, *error: object) -> None:
        self.storage.close()

    def records(self) -> list[Record]:
        """Return the records of the candidates, in the order of sampling."""
        return self._read(self.candidates)

    def reference_runs(self) -> list[Record]:
        """Return the records of the reference runs by seed, the base's first."""
        found = self._read(self.references)
        return sorted(found, key=lambda record: (record.number != BASE_NUMBER, record.seed, record.number))

    def set_meta(self, key: str, value: Any) -> None:
        """Store a value that belongs to the whole search."""
        self.candidates.set_user_attr(key, value)

    def get_meta(self, key: str) -> Any:
        """Return a stored value, None where there is none."""
        return self.candidates.user_attrs.get(key)

    def _read(self, study: optuna.Study) -> list[Record]:
        return [self._record(trial) for trial in valid_trials(study) if RECORD in trial.user_attrs]

    def _record(self, trial: FrozenTrial) -> Record:
        """Return the record of a trial, cached for a finished trial."""
        if not trial.state.is_finished():
            return Record.from_json(trial.user_attrs[RECORD])
        if trial._trial_id not in self._parsed:
            self._parsed[trial._trial_id] = Record.from_json(trial.user_attrs[RECORD])
        return self._parsed[trial._trial_id]


def valid_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials of a study without those that were interrupted, not needed or reassigned: these have FAIL."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state is not TrialState.FAIL]


def open_studies(url: str, spec: SearchSpec, plan: Plan, sampler: BaseSampler, *, new: bool = True) -> Studies:
    """Create the studies of a search, or join existing ones. With `new=False` they must exist.

    Raises InputError when the storage cannot be opened, when it holds a search of this name with another spec or base,
    and with `new=False` when it holds none of this name.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would log an interrupt as a failure
    search = spec.search
    storage = open_storage(url, search)
    try:
        if not new and search.name not in optuna.get_all_study_names(storage):
            message = f"the storage {redact(url)} has no search named {search.name}"
            raise InputError(f"{message}; name the right one with --storage")
        with creation_lock(url):
            candidates = _open_study(search.name, storage, sampler, _directions(search))
            if _check_identity(candidates, spec, plan.base):
                _enqueue_named(candidates, plan)
            references = _open_study(f"{search.name}.references", storage, RandomSampler(seed=0), [Direction.MAXIMIZE])
    except BaseException:
        storage.close()
        raise
    return Studies(url, storage, candidates, references)


def _open_study(
    name: str, storage: RetryingStorage, sampler: BaseSampler, directions: Sequence[Direction]
) -> optuna.Study:
    pruner = NopPruner()  # should_promote decides instead
    return optuna.create_study(
        storage=storage, sampler=sampler, pruner=pruner, study_name=name, directions=directions, load_if_exists=True
    )


def _directions(search: Search) -> list[Direction]:
    return [Direction.MAXIMIZE if objective == "accuracy" else Direction.MINIMIZE for objective in search.objectives]


def _check_identity(study: optuna.Study, spec: SearchSpec, base: ModelSpec) -> bool:
    """Store the spec and base in a new study and return True, or compare them. Raises InputError where they differ."""
    portable = spec.search.model_copy(update={"base": base.name, "enqueue": tuple(map(_stem, spec.search.enqueue))})
    identity = resume_identity(spec.model_copy(update={"search": portable}))  # the same on machines with other paths
    now = {SPEC: identity, BASE: base.model_dump(mode="json")}
    name = spec.search.name
    if not study.user_attrs:
        for key, value in now.items():
            study.set_user_attr(key, value)
        return True
    stored = _with_new_names(study.user_attrs.get(SPEC, ""))
    if stored != now[SPEC]:
        lines = spec_diff(stored, identity)
        raise InputError(f"the storage has another search named {name}; choose another search.name\n{lines}")
    if study.user_attrs.get(BASE) != now[BASE]:
        raise InputError(f"the base {base.name} has changed since the search {name} began; choose another search.name")
    return False


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


def _enqueue_named(study: optuna.Study, plan: Plan) -> None:
    """Queue the models that the spec names."""
    for model, params in plan.enqueued:
        study.enqueue_trial(params, user_attrs={"named": model.name})


def requeue(study: optuna.Study, trial: optuna.Trial | FrozenTrial, attrs: dict[str, Any]) -> None:
    """Queue a trial again that is stopped here. It continues from its last rung."""
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=attrs,
        )
    )


def enqueue(study: optuna.Study, records: Iterable[Record]) -> None:
    """Queue records as trials, in this order."""
    for record in records:
        study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs={RECORD: record.to_json()}))
