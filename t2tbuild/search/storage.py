"""The study on disk: Optuna's relational storage, SQLite in the run directory, and a sampler that can be replayed."""

from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

from t2tbuild.search.record import Record
from t2tbuild.spec.search import Search
from t2tbuild.train.order import mix

RECORD = "record"
STUDY = "t2tbuild"


def ordinal(study: optuna.Study, number: int) -> int:
    """The place of a trial among those that count: trials that were interrupted, and so ended as FAIL, do not."""
    earlier = (trial for trial in study.get_trials(deepcopy=False) if trial.number < number)
    return sum(trial.state is not TrialState.FAIL for trial in earlier)


class ReplayableSampler(BaseSampler):
    """TPE whose draws are a function of the seed and of the trials that count so far.

    A trial that was interrupted ended as FAIL, which neither TPE nor this sampler counts: the next ask draws the very
    same candidate. So a study that was stopped and continued asks for the candidates of an unbroken one.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._inner: BaseSampler = TPESampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner = TPESampler(seed=mix(self._seed, ordinal(study, trial.number)) % 2**32)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._inner.after_trial(study, trial, state, values)


def open_study(run: Path, search: Search) -> optuna.Study:
    """Create or continue the study of a run. The caller holds the run's lock, so this process is its only worker.

    A trial that a killed process left running is ended as FAIL; its candidate is asked for again.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would log an interrupt as a failure
    study = optuna.create_study(
        storage=URL.create("sqlite", database=str(run / "study.db")).render_as_string(),  # any folder name
        sampler=ReplayableSampler(search.seed),
        pruner=NopPruner(),  # the ladder decides who climbs on
        study_name=STUDY,
        direction="maximize",
        load_if_exists=True,
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def read_records(study: optuna.Study) -> list[Record]:
    """The base, once it was trained, and every candidate that counts, in the order of asking."""
    base = study.user_attrs.get(RECORD)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    found = [trial.user_attrs[RECORD] for trial in trials if RECORD in trial.user_attrs]
    return [Record.from_json(data) for data in ([base] if base else []) + found]
