"""The result of a search, and report.json: the same as plain data."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scipy import stats

from t2tbuild.accuracy.validity import AS_SHIPPED, PREDICTOR, PROXY_TRAINING, Validity, validity_of
from t2tbuild.cost import predict_cost
from t2tbuild.cost.budget import excess
from t2tbuild.nas.correlations import Correlation, Measure, compute_correlations, correlate
from t2tbuild.nas.importance import Importance
from t2tbuild.nas.old_names import (
    COUNT_KEYS,
    EVIDENCE_KEYS,
    RECORD_KEYS,
    REPORT_KEYS,
    RUNG_KEYS,
    TEST_KEYS,
    renamed_property,
    with_old_names,
)
from t2tbuild.nas.pareto import pareto_front
from t2tbuild.nas.ranking import Evidence, Ranking, cached_prediction, proxy_validity, zero_cost_configuration
from t2tbuild.nas.record import BASE, Outcome, Record, Source, State
from t2tbuild.nas.reference_runs import base_seed_std, pooled_seed_std
from t2tbuild.nas.timeline import Span
from t2tbuild.nas.verdict import LEVEL, Equal, Prediction, Verdict
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.training.run_directory import read_environment

CAUTION = "short trainings favour models that learn fast; they do not show how a model ranks after a full training"


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        run: The run directory.
        spec: The search spec, with its target and the width of the proxy resolved.
        best: The spec of the winner, also in best.yaml.
        verdict: The winner and the evidence for it.
        base: The base's first training.
        records: The candidates, in the order of sampling.
        reference_runs: The trainings of the base and the confirmation runs.
        outcome: How the search ended.
        trained_as: A description of the proxy training.
        ranking: The ranking of the candidates.
        test: Results of the winner and the base on the test split, None if not evaluated.
        seconds: The time of all sessions of this search.
        latencies: Measured seconds of one inference of the winner and its equals, by `key_of` the model.
        spans: The timeline of the workers.
        importance: The importance of the searched fields, None if there are too few candidates.
    """

    run: Path
    spec: SearchSpec
    best: Spec
    verdict: Verdict
    base: Record
    records: tuple[Record, ...]
    reference_runs: tuple[Record, ...]
    outcome: Outcome
    trained_as: str
    ranking: Ranking
    test: dict[str, Any] | None
    seconds: float
    latencies: Mapping[str, float | None] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    importance: Importance | None = None

    repeats = renamed_property("repeats", "reference_runs")

    @cached_property
    def report(self) -> dict[str, Any]:
        """The content of report.json."""
        return build_report(self)

    @property
    def winner(self) -> Record:
        return self.verdict.winner

    @property
    def budget(self) -> Budget:
        return self.spec.search.budget

    @property
    def asked(self) -> int:
        """The number of candidates, the base not counted."""
        return len(self.records)

    @cached_property
    def front(self) -> list[Record]:
        """The completed candidates on the Pareto front of the objectives; of accuracy and MACs for a single one."""
        costs = [name for name in self.spec.search.objectives if name != "accuracy"] or ["macs"]
        value = self.ranking.value
        completed = [one for one in self.records if one.state is State.COMPLETED and math.isfinite(value(one))]
        points = [(-value(one), *(getattr(one, name) or 0 for name in costs)) for one in completed]
        return [completed[index] for index in pareto_front(points)]

    def count(self, *states: State) -> int:
        """Return the number of candidates in any of the given states, the base not counted."""
        tally = Counter(record.state for record in self.records)
        return sum(tally[state] for state in states)


def build_report(result: SearchResult) -> dict[str, Any]:
    """Return the content of report.json: all numbers of a search as plain data."""
    search, verdict = result.spec.search, result.verdict
    metric, rungs = search.proxy.metric, search.proxy.rungs
    report = {
        "name": search.name,
        "verdict": verdict.sentence,
        "target": search.target,
        "prediction": _prediction_to_json(verdict.prediction),
        "caution": CAUTION,
        "winner": with_old_names(result.winner.to_json(), RECORD_KEYS),
        "base": [with_old_names(one.to_json(), RECORD_KEYS) for one in result.reference_runs if one.number == BASE],
        "proxy_metric": metric,
        "metric": f"validation {metric}" + (", as -ln(loss): higher is better" if metric == "loss" else ""),
        "trained_as": result.trained_as,
        "budget": search.budget.model_dump(),
        "limits": {measure: bounds.max for measure, bounds in search.budget.limits.items()},
        "objectives": search.objectives,
        "gains": [asdict(gain) for gain in verdict.gains],
        "equal_compute": asdict(verdict.equal_compute) if verdict.equal_compute else None,
        "noise_floor": {steps: base_seed_std(result.reference_runs, steps, metric) for steps in rungs},
        "rungs": [with_old_names(_summarize_rung(result, steps), RUNG_KEYS) for steps in rungs],
        "correlations": [asdict(one) for one in _correlations(result)],
        "counts": with_old_names(count_candidates(result), COUNT_KEYS),
        "importance": asdict(result.importance) if result.importance else None,
        "test": with_old_names(result.test, TEST_KEYS) if result.test else None,
        "outcome": str(result.outcome),
        "seconds": round(result.seconds, 1),
        "front": [record.number for record in result.front],
        "candidates": [_record_to_json(record, result) for record in result.records],
        "reference_runs": [_record_to_json(record, result) for record in result.reference_runs],
        "validity": _collect_validities(result),
        "parts": {one.key: list_parts(one.model) for one in (*result.reference_runs, *result.records) if one.model},
        "timeline": [asdict(span) for span in result.spans],
        "environment": read_environment(result.run),
    }
    return with_old_names(report, REPORT_KEYS)


def _record_to_json(record: Record, result: SearchResult) -> dict[str, Any]:
    evidence = with_old_names(_collect_evidence(record, result), EVIDENCE_KEYS)
    return with_old_names(record.to_json(), RECORD_KEYS) | evidence


def _prediction_to_json(found: Prediction | None) -> dict[str, Any] | None:
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


def _collect_evidence(record: Record, result: SearchResult) -> dict[str, Any]:
    """Return all evidence on a record: its prediction, and each proxy result with its validity and its weight."""
    ranking = result.ranking
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
    weight = 1.0 - math.fsum(posterior.weights) if posterior is not None else 0.0  # target: data does not rank by it
    evidence = [one.to_json() for one in ranking.evidence(record)]
    if accuracy.top1 is not None:
        validity = validity_of(PREDICTOR, AS_SHIPPED)
        evidence.insert(0, Evidence(PREDICTOR, accuracy.top1, validity, weight).to_json())
    found = None if posterior is None else asdict(posterior)
    return {"predicted": predicted, "posterior": found, "evidence": evidence}


def _collect_validities(result: SearchResult) -> dict[str, Any]:
    """Return the validity of each kind of evidence in this search, None where it was not measured."""
    search = result.spec.search
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
        for part in predict_cost(model).parts
    ]


def count_candidates(result: SearchResult) -> dict[str, int]:
    """Return how many candidates are in each state, and how many draws the sampler rejected."""
    trained = [record for record in [*result.records, *result.reference_runs] if record.rungs]
    sampled = [record for record in result.records if record.source is not Source.NAMED]
    rejected = sum(record.infeasible + record.duplicates + record.passed_over for record in sampled)
    return {
        "asked": result.asked,
        "drawn": len(sampled) + rejected,
        "drawn_infeasible": sum(record.infeasible for record in sampled),
        "drawn_duplicate": sum(record.duplicates for record in sampled),
        "drawn_passed_over": sum(record.passed_over for record in sampled),
        "infeasible": result.count(State.INFEASIBLE),
        "duplicate": result.count(State.DUPLICATE),
        "pruned": result.count(State.PRUNED),
        "failed": result.count(State.FAILED),
        "completed": result.count(State.COMPLETED),
        "trained": result.count(State.COMPLETED, State.PRUNED, State.FAILED),
        "confirmations": sum(record.number != BASE and bool(record.rungs) for record in result.reference_runs),
        "trained_over_budget": sum(_is_over_budget(record, result.budget) for record in trained),
    }


def _is_over_budget(record: Record, budget: Budget) -> bool:
    return any(amount > 0 for amount in excess(record.measures, budget).values())


def _correlations(result: SearchResult) -> list[Correlation]:
    """Return the rank correlations among the candidates, and of proxy models with full-width confirmation runs."""
    proxy = result.spec.search.proxy
    trained = [record for record in result.records if record.rungs]
    found = compute_correlations(trained, proxy.rungs, proxy.metric)
    full_width: dict[str, list[float]] = {}
    for record in result.reference_runs:
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


def _summarize_rung(result: SearchResult, steps: int) -> dict[str, Any]:
    """Return the scores and seconds of the candidates at a rung, beside the spread of the base over seeds."""
    metric = result.spec.search.proxy.metric
    reached = [rung for record in result.records if (rung := record.at(steps)) is not None]
    scores = [rung.score(metric) for rung in reached]
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    discriminates = _compare_spreads(spread, len(scores), pooled_seed_std(result.reference_runs, steps, metric))
    return {
        "steps": steps,
        "reached": len(reached),
        "mean": statistics.fmean(scores) if scores else None,
        "spread": spread,
        "noise_floor": base_seed_std(result.reference_runs, steps, metric),
        "discriminates": discriminates,
        "seconds": sum(rung.seconds for rung in reached),
    }


def _compare_spreads(spread: float | None, reached: int, seeds: tuple[float, int] | None) -> str:
    """Return whether candidates differ by more than seed noise: an F test of the two variances at 5%."""
    if spread is None or seeds is None:
        return "unknown: too few trainings"
    noise, freedom = seeds
    if noise and stats.f.sf(spread**2 / noise**2, reached - 1, freedom) >= 1 - LEVEL:
        return f"no: differences are within seed noise, measured by {freedom + 1} trainings of one model"
    return "yes"
