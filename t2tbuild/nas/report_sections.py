"""The sections of report.json: records, evidence, rungs and correlations as plain data."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import scipy

from t2tbuild.accuracy.validity import AS_SHIPPED, PREDICTOR, PROXY_TRAINING, Validity, validity_of
from t2tbuild.cost.counter import known_cost
from t2tbuild.nas.correlations import Correlation, Measure, compute_correlations, correlate
from t2tbuild.nas.old_names import (
    EVIDENCE_KEYS,
    RECORD_KEYS,
    with_old_names,
)
from t2tbuild.nas.ranking import Evidence, Ranking, cached_prediction, proxy_validity, zero_cost_configuration
from t2tbuild.nas.record import Record, State
from t2tbuild.nas.reference_runs import base_seed_std, pooled_seed_std
from t2tbuild.nas.verdict import LEVEL, Equal, Prediction
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.search import Search


def record_to_json(record: Record, ranking: Ranking) -> dict[str, Any]:
    """Return a record with the evidence on it."""
    evidence = with_old_names(_collect_evidence(record, ranking), EVIDENCE_KEYS)
    return with_old_names(record.to_json(), RECORD_KEYS) | evidence


def prediction_to_json(found: Prediction | None) -> dict[str, Any] | None:
    """Return the predicted verdict and the equals of the winner, None without one."""
    if found is None:
        return None
    data = asdict(replace(found, equals=()))
    return data | {"equals": [_equal_to_json(one) for one in found.equals]}


def _equal_to_json(one: Equal) -> dict[str, Any]:
    backbone, accuracy = one.model.backbone, one.accuracy
    return {
        "depth": backbone.depth,
        "embed_dim": backbone.embed_dim,
        "mlp_ratio": backbone.mlp_ratio,
        "tokens": one.model.tokenizer.summary,
        "top1": accuracy.top1,
        "low": accuracy.low,
        "high": accuracy.high,
        "macs": one.macs,
        "params": one.params,
        "memory": one.memory,
        "latency": one.latency,
        "model": one.model.model_dump(mode="json"),
    }


def _collect_evidence(record: Record, ranking: Ranking) -> dict[str, Any]:
    """Return all evidence on a record: its prediction, and each proxy result with its validity and its weight.

    With `target: data` the predictor has weight 0 in the ranking. `chose` is true of the evidence that chose this
    candidate among several, before its training: evidence without weight may have done so.
    """
    if record.model is None:
        return {"predicted": None, "posterior": None, "evidence": []}
    accuracy, posterior = cached_prediction(record.model), ranking.posterior(record)
    predicted: dict[str, Any] = {
        "top1": accuracy.top1,
        "low": accuracy.low,
        "high": accuracy.high,
        "recipe": accuracy.recipe,
    }
    predicted |= {"nearest": [str(one) for one in accuracy.nearest], "reason": accuracy.reason}
    weight = 1.0 - math.fsum(posterior.weights) if posterior is not None else 0.0
    evidence = [one.to_json() for one in ranking.evidence(record)]
    if accuracy.top1 is not None:
        validity = validity_of(PREDICTOR, AS_SHIPPED)
        evidence.insert(0, Evidence(PREDICTOR, accuracy.top1, validity, weight).to_json())
    evidence = [one | {"chose": one["kind"] == record.chosen_by} for one in evidence]
    found = None if posterior is None else asdict(posterior)
    return {"predicted": predicted, "posterior": found, "evidence": evidence}


def collect_validities(search: Search) -> dict[str, Any]:
    """Return the validity of each kind of evidence in this search, None where it was not measured."""
    found: dict[str, Validity | None] = {"predictor": validity_of(PREDICTOR, AS_SHIPPED)}
    found |= {f"{PROXY_TRAINING}, {steps} steps": proxy_validity(search.proxy, steps) for steps in search.proxy.rungs}
    found |= {name: validity_of(name, zero_cost_configuration(search.proxy, name)) for name in search.zero_cost.names}
    return {
        name: None if one is None else asdict(one) | {"counts": one.is_valid, "correlation": one.correlation}
        for name, one in found.items()
    }


def list_parts(model: ModelSpec) -> list[dict[str, Any]]:
    """Return the parts of a model, from image to class, each with grid (height, width), tokens, channels and MACs."""
    return [
        {"name": part.name, "grid": part.grid, "tokens": part.tokens, "channels": part.channels, "macs": part.macs}
        for part in known_cost(model).parts
    ]


def list_correlations(records: Sequence[Record], reference_runs: Sequence[Record], proxy: Proxy) -> list[Correlation]:
    """Return the rank correlations among the candidates, and of proxy models with full-width confirmation runs."""
    trained = [record for record in records if record.rungs]
    found = compute_correlations(trained, proxy.rungs, proxy.metric)
    full_width: dict[str, list[float]] = {}
    for record in reference_runs:
        if record.full and record.state is State.COMPLETED:
            full_width.setdefault(record.key, []).append(record.score(proxy.metric))
    if full_width:
        last_rung = f"rung {proxy.rungs[-1]}"
        both = [record for record in trained if record.state is State.COMPLETED and record.key in full_width]
        found.append(correlate(both, (last_rung, _final_score(proxy.metric)), ("full width", _mean_score(full_width))))
    return found


def _final_score(metric: str) -> Measure:
    return lambda record: record.score(metric)


def _mean_score(scores: Mapping[str, Sequence[float]]) -> Measure:
    return lambda record: sum(scores[record.key]) / len(scores[record.key])


def summarize_rung(
    records: Sequence[Record], reference_runs: Sequence[Record], metric: str, steps: int
) -> dict[str, Any]:
    """Return the scores and seconds of the candidates at a rung, beside the spread of the base over seeds."""
    reached = [rung for record in records if (rung := record.at(steps)) is not None]
    scores = [rung.score(metric) for rung in reached]
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    discriminates = _compare_spreads(spread, len(scores), pooled_seed_std(reference_runs, steps, metric))
    return {
        "steps": steps,
        "reached": len(reached),
        "mean": statistics.fmean(scores) if scores else None,
        "spread": spread,
        "noise_floor": base_seed_std(reference_runs, steps, metric),
        "discriminates": discriminates,
        "seconds": sum(rung.seconds for rung in reached),
    }


def _compare_spreads(spread: float | None, reached: int, seeds: tuple[float, int] | None) -> str:
    """Return whether candidates differ by more than seed noise: an F test of the two variances at 5%."""
    if spread is None or seeds is None:
        return "unknown: too few trainings"
    noise, freedom = seeds
    if not spread:
        return "no: all results are equal"
    if noise and scipy.stats.f.sf(spread**2 / noise**2, reached - 1, freedom) >= 1 - LEVEL:
        return f"no: the spread is within seed noise, {noise:.3g} over all models with several seeds"
    return "yes"
