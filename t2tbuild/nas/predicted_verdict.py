"""The verdict of a search for ImageNet accuracy: predicted from published trainings, updated by valid proxies alone."""

import math
from collections.abc import Iterable, Mapping, Sequence

from t2tbuild.accuracy.features import Shape, shape_of
from t2tbuild.accuracy.posterior import Belief
from t2tbuild.accuracy.predictor import DEFAULT_RECIPE, Difference, Z, shipped_predictor
from t2tbuild.cost import predict_cost
from t2tbuild.cost.memory import predict_memory
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.ranking import Ranking, prediction, proxy_validity
from t2tbuild.nas.record import BASE, Record, State, best_of, key_of
from t2tbuild.nas.verdict import Equal, Prediction, Verdict
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search

MAX_EQUALS = 5
"""Equals that are listed at most."""


def decide_by_prediction(
    records: Sequence[Record],
    repeats: Sequence[Record],
    plan: Plan,
    ranking: Ranking,
    latencies: Mapping[str, float | None],
) -> Verdict | None:
    """The verdict on candidates that are ranked by prediction; None where none reached the highest rung.

    The winner is the best ranked of the candidates that reached the highest rung and the base, if it did. `latencies`
    are seconds by `key_of` the model.
    """
    base = next((record for record in repeats if record.number == BASE and record.state is State.TOP), None)
    winner = best_of([*records, *([base] if base else [])], ranking.value)
    belief = None if winner is None else ranking.belief(winner)
    if winner is None or winner.model is None or belief is None:
        return None
    base_belief = None if base is None else ranking.belief(base)
    gain = None
    if base is not None and base.model is not None and base_belief is not None and base.key != winner.key:
        gain = _gain(winner.model, belief, base.model, base_belief)
    equals, better = equals_of(winner.model, plan, records)
    tried = [record for record in records if record.state is State.TOP]
    listed = [_equal(model, latencies) for model in equals[:MAX_EQUALS]]
    limit = plan.search.budget.latency
    found = Prediction(
        winner=belief,
        base=base_belief,
        gain=gain,
        equals=tuple(one for one in listed if limit is None or one.latency is None or one.latency <= limit),
        equal_shapes=len(equals),
        reasons=(*_better(better), _published(winner.model), _proxy(winner, base, plan.search)),
    )
    return Verdict(winner, (), None, _sentence(winner, found, tried), found)


def equals_of(winner: ModelSpec, plan: Plan, records: Iterable[Record]) -> tuple[list[ModelSpec], int]:
    """The winner's equals, best first, and how many other backbones are predicted to be better than it.

    Equals are backbones whose predicted difference from the winner has an interval that includes zero, each with the
    tokenizer of the best prediction. Of a space that is too large to predict every member, those of the candidates.
    """
    predictor, own = shipped_predictor(), shape_of(winner)
    members = [(one.shape, one.member.model) for one in plan.predicted]
    if not members:
        drawn = [record.model for record in records if record.model is not None]
        members = [(shape_of(model), model) for model in drawn if prediction(model).top1 is not None]
        members.sort(key=lambda member: predictor.estimate(member[0], DEFAULT_RECIPE).upper)
    best: dict[str, tuple[Shape, ModelSpec]] = {}
    for shape, model in members:
        best.setdefault(shape.key, (shape, model))
    for shape in (own, shape_of(plan.base)):  # which have rows of their own
        best.pop(shape.key, None)
    equals, better = [], 0
    for shape, model in best.values():
        ahead = predictor.difference(own, shape, DEFAULT_RECIPE)
        if ahead.low <= 0 <= ahead.high:
            equals.append(model)
        better += ahead.high < 0
    return equals, better


def _equal(model: ModelSpec, latencies: Mapping[str, float | None]) -> Equal:
    cost = predict_cost(model)
    memory = predict_memory(model).inference
    return Equal(model, prediction(model), cost.macs, cost.params, memory, latencies.get(key_of(model)))


def _gain(model: ModelSpec, belief: Belief, base: ModelSpec, base_belief: Belief) -> Difference:
    """By how much the winner is believed to be above the base."""
    predicted = shipped_predictor().difference(shape_of(model), shape_of(base), DEFAULT_RECIPE)
    if not any((*belief.weights, *base_belief.weights)):
        return predicted
    value = belief.top1 - base_belief.top1
    half = Z * math.hypot(*((one.high - one.low) / (2 * Z) for one in (belief, base_belief)))
    return Difference(value, value - half, value + half)


def _sentence(winner: Record, found: Prediction, tried: Sequence[Record]) -> str:
    """The verdict in a sentence, which claims no more than the interval does."""
    if winner.number == BASE and not tried:
        return f"No candidate was trained to the highest rung; predicted ImageNet top-1 of the base: {found.winner}."
    if winner.number == BASE and all(prediction(one.model).top1 is None for one in tried if one.model is not None):
        return f"No candidate is near a published model, so none has a prediction; the base has {found.winner}."
    if winner.number == BASE:
        return f"No candidate is predicted to be better than the base: ImageNet top-1 {found.winner}."
    sentence = f"Candidate {winner.number} is predicted to reach an ImageNet top-1 of {found.winner}"
    if found.base is None or found.gain is None:
        return f"{sentence}; the base has no trained result to compare with."
    gain = f"{found.gain.value:+.1f} points ({found.gain.low:+.1f} to {found.gain.high:+.1f})"
    shown = "" if found.gain.low > 0 else "; the interval includes zero, so an improvement is not shown"
    if found.gain.value <= 0:
        shown = "; its interval is narrower, its prediction is not higher"
    return f"{sentence}, the base {found.base}: {gain}{shown}."


def _better(count: int) -> list[str]:
    """That backbones which were not trained are predicted to be better, where there are any."""
    if not count:
        return []
    return [f"{count} backbones of the space that were not trained are predicted to be better than the winner."]


def _published(model: ModelSpec) -> str:
    """The published models that the prediction rests on most."""
    nearest = ", ".join(str(one) for one in prediction(model).nearest)
    return f"The prediction is for the paper's recipe, from published trainings; the nearest: {nearest}."


def _proxy(winner: Record, base: Record | None, search: Search) -> str:
    """What the proxy trainings showed, and whether they count."""
    proxy = search.proxy
    steps = proxy.rungs[-1]
    results = [
        f"{'the base' if record.number == BASE else f'candidate {record.number}'} {rung.loss:.3f}"
        for record in (winner, base)
        if record is not None and (rung := record.at(steps)) is not None
    ]
    shown = ", ".join(dict.fromkeys(results)) or "none"
    validity = proxy_validity(proxy, steps)
    if validity is None:
        counts = "they do not count: their validity in this configuration was not measured"
    elif validity.counts:
        counts = f"they count: {validity}"
    else:
        counts = f"they do not count: {validity}"
    return f"Proxy trainings on {proxy.data.kind}, validation loss after {steps} steps: {shown}; {counts}."
