"""The verdict of a search for ImageNet accuracy, from the predictor and from proxies whose validity is proven."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from t2tbuild.accuracy.features import Shape, shape_of
from t2tbuild.accuracy.posterior import Posterior
from t2tbuild.accuracy.predictor import DEFAULT_RECIPE, Z_90, Difference, predicted_error_bound, shipped_predictor
from t2tbuild.cost import predict_cost
from t2tbuild.cost.memory import predict_memory
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.ranking import Ranking, cached_prediction, proxy_validity
from t2tbuild.nas.record import BASE, Record, State, best_of
from t2tbuild.nas.verdict import Equal, Prediction, Verdict
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search

MAX_EQUALS = 5
"""The largest number of equals in a verdict."""


def decide_by_prediction(
    records: Sequence[Record],
    reference_runs: Sequence[Record],
    plan: Plan,
    ranking: Ranking,
) -> Verdict | None:
    """Return the verdict on candidates that are ranked by prediction, None where none is completed.

    The winner is the best ranked among the completed candidates and the base, if that is completed; the base, where
    neither the prediction nor the MACs of a candidate are better. The latencies of its equals are unknown until
    `with_latencies`.
    """
    base = next(
        (record for record in reference_runs if record.number == BASE and record.state is State.COMPLETED), None
    )
    winner = best_of([*([base] if base else []), *records], ranking.value)
    posterior = None if winner is None else ranking.posterior(winner)
    if winner is None or winner.model is None or posterior is None:
        return None
    base_posterior = None if base is None else ranking.posterior(base)
    gain = None
    if base is not None and base.model is not None and base_posterior is not None and base.key != winner.key:
        gain = _predict_gain(winner.model, posterior, base.model, base_posterior)
    equals, better = find_equals(winner.model, plan, records)
    completed = [record for record in records if record.state is State.COMPLETED]
    found = Prediction(
        winner=posterior,
        base=base_posterior,
        gain=gain,
        equals=tuple(describe_equal(model, {}) for model in equals[:MAX_EQUALS]),
        equal_shapes=len(equals),
        reasons=(
            *_describe_better(better),
            _describe_nearest(winner.model),
            _describe_proxy_results(winner, base, plan.search),
        ),
    )
    return Verdict(winner, (), None, _write_sentence(winner, found, completed), found)


def with_latencies(verdict: Verdict, latencies: Mapping[str, float | None], limit: float | None) -> Verdict:
    """Return the verdict with the measured latencies of the equals, without those over the limit.

    `latencies` are in seconds, by `key_of` the model; `limit` is the budget's.
    """
    found = verdict.prediction
    if found is None:
        return verdict
    equals = [replace(one, latency=latencies.get(key_of(one.model))) for one in found.equals]
    kept = tuple(one for one in equals if limit is None or one.latency is None or one.latency <= limit)
    return replace(verdict, prediction=replace(found, equals=kept))


def find_equals(winner: ModelSpec, plan: Plan, records: Iterable[Record]) -> tuple[list[ModelSpec], int]:
    """Return the winner's equals, best first, and the number of backbones that are predicted to be better.

    Equals are backbones whose predicted difference from the winner has an interval that includes zero, each with its
    best predicted tokenizer. Where the space is too large to enumerate, only the candidates are considered.
    """
    predictor, own = shipped_predictor(), shape_of(winner)
    members = [(one.shape, one.member.model) for one in plan.predicted]
    if not members:
        drawn = [record.model for record in records if record.model is not None]
        members = [(shape_of(model), model) for model in drawn if cached_prediction(model).top1 is not None]
        members.sort(key=lambda member: predicted_error_bound(member[0]))
    best: dict[str, tuple[Shape, ModelSpec]] = {}
    for shape, model in members:
        best.setdefault(shape.key, (shape, model))
    for shape in (own, shape_of(plan.base)):  # these two have rows of their own
        best.pop(shape.key, None)
    equals, better = [], 0
    for shape, model in best.values():
        ahead = predictor.difference(own, shape, DEFAULT_RECIPE)
        if ahead.low <= 0 <= ahead.high:
            equals.append(model)
        better += ahead.high < 0
    return equals, better


def describe_equal(model: ModelSpec, latencies: Mapping[str, float | None]) -> Equal:
    """Return a model with its predicted accuracy and cost, and its latency where it was measured."""
    cost = predict_cost(model)
    memory = predict_memory(model).inference
    return Equal(model, cached_prediction(model), cost.macs, cost.params, memory, latencies.get(key_of(model)))


def _predict_gain(model: ModelSpec, posterior: Posterior, base: ModelSpec, base_posterior: Posterior) -> Difference:
    """Return by how many points the winner is above the base, with the 90% interval."""
    predicted = shipped_predictor().difference(shape_of(model), shape_of(base), DEFAULT_RECIPE)
    if not any((*posterior.weights, *base_posterior.weights)):
        return predicted
    value = posterior.top1 - base_posterior.top1
    half = Z_90 * math.hypot(*((one.high - one.low) / (2 * Z_90) for one in (posterior, base_posterior)))
    return Difference(value, value - half, value + half)


def _write_sentence(winner: Record, found: Prediction, completed: Sequence[Record]) -> str:
    """Return the verdict as a sentence that claims no more than the interval shows."""
    if winner.number == BASE and not completed:
        return f"No candidate was trained to the highest rung; predicted ImageNet top-1 of the base: {found.winner}."
    models = [one.model for one in completed if one.model is not None]
    if winner.number == BASE and all(cached_prediction(model).top1 is None for model in models):
        return f"No candidate is near a published model, so none has a prediction; the base has {found.winner}."
    if winner.number == BASE:
        return f"No candidate is predicted to be better than the base: ImageNet top-1 {found.winner}."
    sentence = f"Candidate {winner.number} is predicted to reach an ImageNet top-1 of {found.winner}"
    if found.base is None or found.gain is None:
        return f"{sentence}; the base has no trained result to compare with."
    gain = f"{found.gain.value:+.1f} points ({found.gain.low:+.1f} to {found.gain.high:+.1f})"
    shown = "" if found.gain.low > 0 else "; the interval includes zero, so an improvement is not shown"
    if found.gain.value <= 0:
        shown = "; its prediction is not higher, but its interval is narrower"
    return f"{sentence}, the base {found.base}: {gain}{shown}."


def _describe_better(count: int) -> list[str]:
    """Return the note on untrained backbones that are predicted to be better; empty if there are none."""
    if not count:
        return []
    backbones = "backbone of the space is" if count == 1 else "backbones of the space are"
    return [f"{count} untrained {backbones} predicted to be better than the winner."]


def _describe_nearest(model: ModelSpec) -> str:
    """Return the note on the nearest published models."""
    nearest = ", ".join(str(one) for one in cached_prediction(model).nearest)
    return f"The prediction is for the paper's recipe, from published trainings. The nearest are: {nearest}."


def _describe_proxy_results(winner: Record, base: Record | None, search: Search) -> str:
    """Return the note on the proxy trainings and on whether they affect the ranking."""
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
        use = "not used in the ranking: their validity in this configuration was not measured"
    elif validity.is_valid:
        use = f"used in the ranking: {validity}"
    else:
        use = f"not used in the ranking: {validity}"
    return f"Proxy trainings on {proxy.data.kind}, validation loss after {steps} steps: {shown}; {use}."
