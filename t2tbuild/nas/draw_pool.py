"""How many draws of an Optuna sampler a candidate is chosen from, and by what."""

from collections.abc import Sequence
from functools import partial

from t2tbuild.accuracy.features import shape_of
from t2tbuild.accuracy.predictor import predict_accuracy, predicted_error_bound, shipped_predictor
from t2tbuild.accuracy.validity import PREDICTOR
from t2tbuild.nas.correlations import select_zero_cost_proxy
from t2tbuild.nas.draw import Choice, Draw
from t2tbuild.nas.evaluator import Evaluator
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator
from t2tbuild.nas.record import Record
from t2tbuild.spec.search import Search

PREDICTED_POOL = 64
"""Draws of which the best predicted is trained, where the prediction ranks and the space is too large to enumerate."""


def pool_of(search: Search, plan: Plan, records: Sequence[Record], evaluator: Evaluator) -> tuple[int, Choice | None]:
    """Return the size of the pool, and what chooses from it: the prediction, else a zero-cost proxy, else nothing."""
    if len(search.objectives) > 1:
        return 1, None  # the sampler trades accuracy against cost
    if predict_accuracy(plan.base).top1 is not None:
        is_predicted = search.sampler == "predicted" and search.target == "imagenet"
        size = max(search.zero_cost.pool, PREDICTED_POOL) if is_predicted else search.zero_cost.pool
        return size, Choice(PREDICTOR, best_predicted)
    if isinstance(evaluator, ProxyEvaluator) and (name := select_zero_cost_proxy(records, search)) is not None:
        return search.zero_cost.pool, Choice(name, partial(evaluator.choose_draw, name=name))
    return 1, None


def best_predicted(draws: Sequence[Draw]) -> Draw:
    """Return the draw of the best predicted accuracy; draws far from published models rank last."""

    def rank(draw: Draw) -> tuple[bool, float]:
        shape = shape_of(draw.model)
        return bool(shipped_predictor().reason_not_predicted(shape)), predicted_error_bound(shape)

    return min(draws, key=rank)
