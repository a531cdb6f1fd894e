"""Which fields of the space mattered: Optuna's functional ANOVA over the candidates at the highest rung."""

import math
from dataclasses import dataclass

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from t2tbuild.nas.record import Rung, State
from t2tbuild.nas.storage import RECORD
from t2tbuild.nas.store import Studies, counted

FEWEST = 8
"""Candidates at the highest rung below which nothing is told."""
MANY = 100
"""Candidates from which on the caution is a shorter one."""


@dataclass(frozen=True)
class Importance:
    """How much of what single fields explain of the scores' variance each explains, 0 to 1: they sum to one.

    What only several fields together explain is left out. Hutter, Hoos and Leyton-Brown, An Efficient Approach for
    Assessing Hyperparameter Importance (ICML 2014).
    """

    method: str
    candidates: int
    fields: dict[str, float]
    caution: str


def importance(studies: Studies, metric: str) -> Importance | None:
    """The importance of the fields that every candidate has; None of too few candidates, or of equal ones."""
    study = optuna.create_study(direction="maximize")
    for trial in counted(studies.candidates):
        record = trial.user_attrs.get(RECORD)
        if record is not None and record["state"] == State.TOP:
            value = Rung(**record["rungs"][-1]).score(metric)
            if math.isfinite(value):
                message = optuna.create_trial(params=trial.params, distributions=trial.distributions, value=value)
                study.add_trial(message)
    trials = study.get_trials(deepcopy=False)
    if len(trials) < FEWEST or len({trial.value for trial in trials}) == 1:
        return None
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    if not shares:
        return None
    return Importance("fANOVA", len(trials), dict(shares), _caution(len(trials)))


def _caution(candidates: int) -> str:
    message = f"from {candidates} candidates at the highest rung, one seed each"
    if candidates >= MANY:
        return f"{message}; of this space, budget and proxy alone"
    return f"{message}: with so few, shares change much from search to search, and order shows little"
