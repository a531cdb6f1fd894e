"""The importance of the searched fields: Optuna's functional ANOVA over the completed candidates."""

import math
from dataclasses import dataclass

import optuna

from t2tbuild.nas.store.store import Store

MIN_CANDIDATES = 8
"""With fewer completed candidates no importance is computed."""
MANY_CANDIDATES = 100
"""With at least this many candidates the caution is shorter."""


@dataclass(frozen=True)
class Importance:
    """The share of each field in the score variance that single fields explain, 0 to 1; the shares sum to one.

    Variance that only several fields together explain is left out. Hutter, Hoos and Leyton-Brown, An Efficient Approach
    for Assessing Hyperparameter Importance (ICML 2014).
    """

    method: str
    candidates: int
    fields: dict[str, float]
    caution: str


def compute_importance(store: Store, metric: str) -> Importance | None:
    """Return the importance of the fields that all candidates have.

    None where there are too few completed candidates, or all have the same score.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # imports scikit-learn: a second

    study = optuna.create_study(direction="maximize")
    for record, params, distributions in store.completed_params():
        value = record.score(metric)
        if math.isfinite(value):
            study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=value))
    trials = study.get_trials(deepcopy=False)
    if len(trials) < MIN_CANDIDATES or len({trial.value for trial in trials}) == 1:
        return None
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    if not shares:
        return None
    return Importance("fANOVA", len(trials), dict(shares), _caution(len(trials)))


def _caution(candidates: int) -> str:
    evidence = f"from {candidates} completed candidates, one seed each"
    if candidates >= MANY_CANDIDATES:
        return f"{evidence}; valid for this space, budget and proxy only"
    return f"{evidence}; with so few, shares and their order vary much between searches"
