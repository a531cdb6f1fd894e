"""The two studies of a search: candidates, which a sampler draws, and references, which are trained with several seeds.

References (the base, and at the end the best and random candidates) are told to no sampler, so they have a study of
their own in the same storage. What is known of a training is in its trial's user attributes, and is written again
whenever it grows; so whoever looks sees what every worker does.
"""

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection as Direction
from optuna.trial import FrozenTrial, TrialState

from t2tbuild.errors import InputError
from t2tbuild.files import redact
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.record import BASE as BASE_NUMBER
from t2tbuild.nas.record import Record
from t2tbuild.nas.storage import RECORD, RetryingStorage, connect, creating
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import SearchSpec
from t2tbuild.spec.search import Search
from t2tbuild.training.run_directory import difference, identity

SPEC, BASE = "spec", "base"


class Studies:
    """Candidates and references of a search, in a storage, which is let go at the end of a `with`."""

    def __init__(self, url: str, storage: RetryingStorage, candidates: optuna.Study, references: optuna.Study) -> None:
        self.url, self.storage, self.candidates, self.references = url, storage, candidates, references
        self._parsed: dict[int, Record] = {}

    def __enter__(self) -> "Studies":
        return self

    def __exit__(self, *error: object) -> None:
        self.storage.close()

    def records(self) -> list[Record]:
        """The candidates that count, in the order of asking."""
        return self._read(self.candidates)

    def repeats(self) -> list[Record]:
        """The references by their seeds, the base's first."""
        found = self._read(self.references)
        return sorted(found, key=lambda record: (record.number != BASE_NUMBER, record.seed, record.number))

    def note(self, key: str, value: Any) -> None:
        """Keep something that is known of the whole search."""
        self.candidates.set_user_attr(key, value)

    def noted(self, key: str) -> Any:
        """What was kept; None where nothing was."""
        return self.candidates.user_attrs.get(key)

    def _read(self, study: optuna.Study) -> list[Record]:
        return [self._record(trial) for trial in counted(study) if RECORD in trial.user_attrs]

    def _record(self, trial: FrozenTrial) -> Record:
        """The record of a trial; that of one that has ended is parsed once."""
        if not trial.state.is_finished():
            return Record.from_json(trial.user_attrs[RECORD])
        if trial._trial_id not in self._parsed:
            self._parsed[trial._trial_id] = Record.from_json(trial.user_attrs[RECORD])
        return self._parsed[trial._trial_id]


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: what was interrupted, is surplus or was given to another worker ended as FAIL."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state is not TrialState.FAIL]


def open_studies(url: str, spec: SearchSpec, plan: Plan, sampler: BaseSampler, *, new: bool = True) -> Studies:
    """Create the studies of a search, or join them: by whichever process comes first. Without `new` they are there.

    Raises InputError when the storage cannot be opened, when it holds a search of this name with another space or base,
    and without `new` when it holds none of this name.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would log an interrupt as a failure
    search = spec.search
    storage = connect(url, search)
    try:
        if not new and search.name not in optuna.get_all_study_names(storage):
            message = f"the storage {redact(url)} has no search named {search.name}"
            raise InputError(f"{message}; name the right one with --storage")
        with creating(url):
            candidates = _open(search.name, storage, sampler, _directions(search))
            if _is_new(candidates, spec, plan.base):
                _enqueue_named(candidates, plan)
            references = _open(f"{search.name}.references", storage, RandomSampler(seed=0), [Direction.MAXIMIZE])
    except BaseException:
        storage.close()
        raise
    return Studies(url, storage, candidates, references)


def _open(name: str, storage: RetryingStorage, sampler: BaseSampler, directions: Sequence[Direction]) -> optuna.Study:
    pruner = NopPruner()  # the ladder decides who climbs on
    return optuna.create_study(
        storage=storage, sampler=sampler, pruner=pruner, study_name=name, directions=directions, load_if_exists=True
    )


def _directions(search: Search) -> list[Direction]:
    return [Direction.MAXIMIZE if objective == "accuracy" else Direction.MINIMIZE for objective in search.objectives]


def _is_new(study: optuna.Study, spec: SearchSpec, base: ModelSpec) -> bool:
    """Whether a study is a fresh one; keeps what it is a search of, and refuses another."""
    placed = spec.search.model_copy(update={"base": base.name, "enqueue": tuple(map(_stem, spec.search.enqueue))})
    anywhere = identity(spec.model_copy(update={"search": placed}))  # machines keep their specs at different places
    now = {SPEC: anywhere, BASE: base.model_dump(mode="json")}
    name = spec.search.name
    if not study.user_attrs:
        for key, value in now.items():
            study.set_user_attr(key, value)
        return True
    if study.user_attrs.get(SPEC) != now[SPEC]:
        lines = difference(study.user_attrs.get(SPEC, ""), anywhere)
        raise InputError(f"the storage has another search named {name}; choose another search.name\n{lines}")
    if study.user_attrs.get(BASE) != now[BASE]:
        raise InputError(f"the base {base.name} has changed since the search {name} began; choose another search.name")
    return False


def _stem(name: str) -> str:
    return PurePath(name).stem


def _enqueue_named(study: optuna.Study, plan: Plan) -> None:
    """Let the models that the spec names be asked for first."""
    for model, params in plan.enqueued:
        study.enqueue_trial(params, user_attrs={"named": model.name})


def requeue(study: optuna.Study, trial: optuna.Trial | FrozenTrial, attrs: dict[str, Any]) -> None:
    """Let a training that is given up here be asked for again, to go on from its last rung."""
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=attrs,
        )
    )


def enqueue(study: optuna.Study, records: Iterable[Record]) -> None:
    """Let trainings be asked for, in this order."""
    for record in records:
        study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs={RECORD: record.to_json()}))
