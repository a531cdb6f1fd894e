"""The result of a search, and report.json: the same as plain data."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from t2tbuild.cost.budget import excess
from t2tbuild.nas.latency_readings import LatencySummary
from t2tbuild.nas.old_names import (
    COUNT_KEYS,
    RECORD_KEYS,
    REPORT_KEYS,
    RUNG_KEYS,
    TEST_KEYS,
    renamed_property,
    with_old_names,
)
from t2tbuild.nas.pareto import pareto_front
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Outcome, Record, Source, State
from t2tbuild.nas.reference_runs import base_seed_std
from t2tbuild.nas.report_sections import (
    collect_validities,
    list_correlations,
    list_parts,
    prediction_to_json,
    record_to_json,
    summarize_rung,
)
from t2tbuild.nas.store.importance import Importance
from t2tbuild.nas.supernet.state import read_report
from t2tbuild.nas.timeline import Span
from t2tbuild.nas.verdict import Verdict
from t2tbuild.spec.budget import Budget
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
        evaluator: The user's own function that evaluated candidates, empty for proxy training.
        stop_reason: Why more candidates would not have helped, where the search stopped for that.
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
    stop_reason: str = ""
    evaluator: str = ""
    latencies: Mapping[str, float | None] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    importance: Importance | None = None
    latency: LatencySummary | None = None

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
        "prediction": prediction_to_json(verdict.prediction),
        "caution": f"candidates were evaluated {result.trained_as}" if result.evaluator else CAUTION,
        "evaluator": result.evaluator,
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
        "rungs": [
            with_old_names(summarize_rung(result.records, result.reference_runs, metric, steps), RUNG_KEYS)
            for steps in rungs
        ],
        "correlations": [asdict(one) for one in list_correlations(result.records, result.reference_runs, search.proxy)],
        "counts": with_old_names(count_candidates(result), COUNT_KEYS),
        "candidates_chosen_by": dict(Counter(one.chosen_by or str(one.source) for one in result.records)),
        "latency": asdict(result.latency) if result.latency else None,
        "importance": asdict(result.importance) if result.importance else None,
        "supernet": read_report(result.run) if search.supernet is not None else None,
        "test": with_old_names(result.test, TEST_KEYS) if result.test else None,
        "outcome": str(result.outcome),
        "stop_reason": result.stop_reason,
        "seconds": round(result.seconds, 1),
        "front": [record.number for record in result.front],
        "candidates": [record_to_json(record, result.ranking) for record in result.records],
        "reference_runs": [record_to_json(record, result.ranking) for record in result.reference_runs],
        "validity": {} if result.evaluator else collect_validities(search),
        "parts": {one.key: list_parts(one.model) for one in (*result.reference_runs, *result.records) if one.model},
        "timeline": [asdict(span) for span in result.spans],
        "environment": read_environment(result.run),
    }
    return with_old_names(report, REPORT_KEYS)


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
