"""What a search leaves in its run directory: candidates.csv, best.yaml, front/, report.json."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from scipy import stats

from t2tbuild.accuracy.validity import AS_SHIPPED, PREDICTOR, PROXY_TRAINING, Validity, validity_of
from t2tbuild.cost import predict_cost
from t2tbuild.files import atomic_write
from t2tbuild.nas.correlations import Correlation, Measure, all_correlations, correlate
from t2tbuild.nas.ranking import Evidence, prediction, proxy_validity, zero_cost_configuration
from t2tbuild.nas.record import BASE, Record, Source, State, write_csv
from t2tbuild.nas.reference_runs import noise_floor, seed_spread
from t2tbuild.nas.verdict import LEVEL, Equal, Prediction
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import Spec
from t2tbuild.spec.write import write_spec
from t2tbuild.training.run_directory import read_environment

if TYPE_CHECKING:
    from t2tbuild.nas.run import SearchResult

QUOTE = "short trainings favour what learns fast, and nothing here says how a model ranks after a full training"


def leave(result: "SearchResult") -> None:
    """Write all files of a search's end."""
    records, ranking = [*result.repeats, *result.records], result.ranking
    write_csv(
        records, result.run / "candidates.csv", trained_as=result.trained_as, accuracy=prediction, rank=ranking.value
    )
    write_spec(result.best, result.run / "best.yaml", note=_provenance(result))
    if len(result.spec.search.objectives) > 1:
        _leave_front(result)
    atomic_write(result.run / "report.json", json.dumps(result.report, indent=1) + "\n")


def _leave_front(result: "SearchResult") -> None:
    folder, names = result.run / "front", set[str]()
    folder.mkdir(exist_ok=True)
    for record in pareto_front(result):
        assert record.model is not None
        names.add(f"{record.model.name}.yaml")
        write_spec(
            Spec(version=1, model=record.model),
            folder / f"{record.model.name}.yaml",
            note=f"Of the front of {result.run}: {_point(record, result)}.",
        )
    for path in folder.glob("*.yaml"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def _point(record: Record, result: "SearchResult") -> str:
    """What a candidate shows in each objective."""
    belief = result.ranking.belief(record)
    accuracy = f"{record.accuracy:.4f}" if belief is None else f"predicted {belief}"
    values = {"accuracy": accuracy, "macs": f"{record.macs:,}", "params": f"{record.params:,}"}
    values |= {"latency": f"{record.latency or 0:.4g} s", "activations": f"{record.activations or 0:,} bytes"}
    return ", ".join(f"{name} {values[name]}" for name in result.spec.search.objectives)


def report_of(result: "SearchResult") -> dict[str, Any]:
    """Everything that a report shows, as plain data."""
    search, verdict = result.spec.search, result.verdict
    metric, rungs = search.proxy.metric, search.proxy.rungs
    return {
        "name": search.name,
        "verdict": verdict.sentence,
        "target": search.target,
        "prediction": _prediction(verdict.prediction),
        "caution": QUOTE,
        "winner": result.winner.to_json(),
        "base": [record.to_json() for record in result.repeats if record.number == BASE],
        "judged_by": metric,
        "metric": f"validation {metric}" + (", as -ln(loss): higher is better" if metric == "loss" else ""),
        "trained_as": result.trained_as,
        "budget": search.budget.model_dump(),
        "limits": {measure: bounds.max for measure, bounds in search.budget.limits.items()},
        "objectives": search.objectives,
        "gains": [asdict(gain) for gain in verdict.gains],
        "race": asdict(verdict.race) if verdict.race else None,
        "noise_floor": {steps: noise_floor(result.repeats, steps, metric) for steps in rungs},
        "rungs": [_rung(result, steps) for steps in rungs],
        "correlations": [asdict(one) for one in correlations(result)],
        "counts": counts(result),
        "importance": asdict(result.importance) if result.importance else None,
        "test": result.test,
        "outcome": str(result.outcome),
        "seconds": round(result.seconds, 1),
        "front": [record.number for record in pareto_front(result)],
        "candidates": [record.to_json() | _evidence(record, result) for record in result.records],
        "repeats": [record.to_json() | _evidence(record, result) for record in result.repeats],
        "validity": validity_in_use(result),
        "parts": {record.key: parts_of(record.model) for record in (*result.repeats, *result.records) if record.model},
        "timeline": [asdict(span) for span in result.spans],
        "environment": read_environment(result.run),
    }


def _prediction(found: Prediction | None) -> dict[str, Any] | None:
    """The prediction of a verdict as plain data."""
    if found is None:
        return None
    data = asdict(replace(found, equals=()))
    return data | {"equals": [_equal(one) for one in found.equals]}


def _equal(one: Equal) -> dict[str, Any]:
    backbone, accuracy = one.model.backbone, one.accuracy
    return {
        "depth": backbone.depth,
        "embed_dim": backbone.embed_dim,
        "mlp_ratio": backbone.mlp_ratio,
        "tokens": one.model.tokenizer.short,
        "top1": accuracy.top1,
        "low": accuracy.low,
        "high": accuracy.high,
        "macs": one.macs,
        "params": one.params,
        "memory": one.memory,
        "latency": one.latency,
        "model": one.model.model_dump(mode="json"),
    }


def _evidence(record: Record, result: "SearchResult") -> dict[str, Any]:
    """All evidence on a record: its prediction, and each proxy with its validity and its weight."""
    ranking = result.ranking
    if record.model is None:
        return {"predicted": None, "belief": None, "evidence": []}
    accuracy, belief = prediction(record.model), ranking.belief(record)
    predicted: dict[str, Any] = {
        "top1": accuracy.top1,
        "low": accuracy.low,
        "high": accuracy.high,
        "recipe": accuracy.recipe,
    }
    predicted |= {"nearest": [str(one) for one in accuracy.nearest], "reason": accuracy.reason}
    weight = 1.0 - math.fsum(belief.weights) if belief is not None else 0.0  # for other data it chose what is trained
    evidence = [one.to_json() for one in ranking.evidence(record)]
    if accuracy.top1 is not None:
        validity = validity_of(PREDICTOR, AS_SHIPPED)
        evidence.insert(0, Evidence(PREDICTOR, accuracy.top1, validity, weight).to_json())
    return {"predicted": predicted, "belief": None if belief is None else asdict(belief), "evidence": evidence}


def validity_in_use(result: "SearchResult") -> dict[str, Any]:
    """Of each kind of evidence of this search its validity and whether it counts; None where it was not measured."""
    search = result.spec.search
    found: dict[str, Validity | None] = {"predictor": validity_of(PREDICTOR, AS_SHIPPED)}
    found |= {f"{PROXY_TRAINING}, {steps} steps": proxy_validity(search.proxy, steps) for steps in search.proxy.rungs}
    found |= {name: validity_of(name, zero_cost_configuration(search.proxy, name)) for name in search.scores.names}
    return {
        name: None if one is None else asdict(one) | {"counts": one.counts, "correlation": one.correlation}
        for name, one in found.items()
    }


def parts_of(model: ModelSpec) -> list[dict[str, Any]]:
    """What a model consists of, from image to class: each part's grid (height, width), tokens, channels and MACs."""
    return [
        {"name": part.name, "grid": part.grid, "tokens": part.tokens, "channels": part.channels, "macs": part.macs}
        for part in predict_cost(model).parts
    ]


def counts(result: "SearchResult") -> dict[str, int]:
    """How many candidates were asked for, and what became of them; draws that were drawn again are counted too."""
    budget = result.budget
    trained = [record for record in [*result.records, *result.repeats] if record.rungs]
    over = 0
    for record in trained:
        spent = {"macs": record.macs, "params": record.params, "activations": record.activations}
        limits = {name: bounds.max for name, bounds in budget.limits.items()}
        over += any(limit is not None and (spent[name] or 0) > limit for name, limit in limits.items())
        over += budget.latency is not None and (record.latency or 0.0) > budget.latency
    drawn = [record for record in result.records if record.arm is not Source.NAMED]
    return {
        "asked": result.asked,
        "drawn": len(drawn) + sum(record.infeasible + record.duplicates + record.passed for record in drawn),
        "drawn_infeasible": sum(record.infeasible for record in drawn),
        "drawn_duplicate": sum(record.duplicates for record in drawn),
        "drawn_passed_over": sum(record.passed for record in drawn),
        "infeasible": result.count(State.INFEASIBLE),
        "duplicate": result.count(State.DUPLICATE),
        "stopped": result.count(State.STOPPED),
        "failed": result.count(State.FAILED),
        "top": result.count(State.TOP),
        "trained": result.count(State.TOP, State.STOPPED, State.FAILED),
        "confirmations": sum(record.number != BASE and bool(record.rungs) for record in result.repeats),
        "trained_over_budget": over,
    }


def correlations(result: "SearchResult") -> list[Correlation]:
    """Rank correlations among the candidates; of twins with their originals, where those were trained."""
    proxy = result.spec.search.proxy
    trained = [record for record in result.records if record.rungs]
    found = all_correlations(trained, proxy.rungs, proxy.metric)
    originals: dict[str, list[float]] = {}
    for record in result.repeats:
        if record.full and record.state is State.TOP:
            originals.setdefault(record.key, []).append(record.score(proxy.metric))
    if originals:
        top = f"rung {proxy.rungs[-1]}"
        twins = [record for record in trained if record.state is State.TOP and record.key in originals]
        found.append(correlate(twins, (top, _top(proxy.metric)), ("originals", _mean_of(originals))))
    return found


def _top(metric: str) -> Measure:
    return lambda record: record.score(metric)


def _mean_of(scores: Mapping[str, Sequence[float]]) -> Measure:
    return lambda record: sum(scores[record.key]) / len(scores[record.key])


def pareto_front(result: "SearchResult") -> list[Record]:
    """Of the candidates at the highest rung, those that none beats in one objective and equals in the others."""
    names = result.spec.search.objectives
    costs = [name for name in names if name != "accuracy"] or ["macs"]
    value = result.ranking.value
    top = [record for record in result.records if record.state is State.TOP and math.isfinite(value(record))]
    points = {record.key: (-value(record), *(getattr(record, name) or 0 for name in costs)) for record in top}

    def beaten(mine: tuple[float, ...]) -> bool:
        return any(
            other != mine and all(theirs <= ours for theirs, ours in zip(other, mine, strict=True))
            for other in points.values()
        )

    return [record for record in top if not beaten(points[record.key])]


def _rung(result: "SearchResult", steps: int) -> dict[str, Any]:
    """What a rung told: scores and seconds of those that reached it, beside the spread of the base over seeds."""
    metric = result.spec.search.proxy.metric
    reached = [rung for record in result.records if (rung := record.at(steps)) is not None]
    scores = [rung.score(metric) for rung in reached]
    floor = noise_floor(result.repeats, steps, metric)
    spread, seeds = statistics.stdev(scores) if len(scores) > 1 else None, seed_spread(result.repeats, steps, metric)
    return {
        "steps": steps,
        "reached": len(reached),
        "mean": statistics.fmean(scores) if scores else None,
        "spread": spread,
        "noise_floor": floor,
        "tells": _tells(spread, len(scores), seeds),
        "seconds": sum(rung.seconds for rung in reached),
    }


def _tells(spread: float | None, reached: int, seeds: tuple[float, int] | None) -> str:
    """Whether candidates differ by more than seeds make one model differ: F test of the two variances, 5%."""
    if spread is None or seeds is None:
        return "unknown: too few trainings"
    noise, freedom = seeds
    if noise and stats.f.sf(spread**2 / noise**2, reached - 1, freedom) >= 1 - LEVEL:
        return f"nothing that is shown: candidates are not told apart from {freedom + 1} trainings of one model"
    return "something"


def _provenance(result: "SearchResult") -> str:
    winner, search = result.winner, result.spec.search
    who = "the base itself" if winner.number == BASE else f"candidate {winner.number}"
    again = [record for record in result.repeats if record.key == winner.key and record.state is State.TOP]
    rungs = [record.rungs[-1] for record in again if record.full] or [record.rungs[-1] for record in again or [winner]]
    accuracy, loss = (statistics.fmean(getattr(rung, name) for rung in rungs) for name in ("accuracy", "loss"))
    seeds = f"the mean of {len(rungs)} seeds" if len(rungs) > 1 else "one training"
    cheap = ", ".join(f"{name} {value:.4g}" for name, value in winner.scores.items())
    assert winner.model is not None
    environment = read_environment(result.run)
    versions = ", ".join(f"{name} {environment['packages'][name]}" for name in ("t2tbuild", "torch", "timm", "optuna"))
    best = result.run / "best.yaml"
    return (
        f"Found by t2tbuild search {search.name}, seed {search.seed}: {who} of {result.run}.\n"
        f"{winner.params:,} parameters, {winner.macs:,} MACs, counted by fvcore.\n"
        f"Proxy validation accuracy {accuracy:.4f}, loss {loss:.4f}, {seeds}; trained were {result.trained_as}.\n"
        f"Zero-cost proxies: {cheap or 'none'}.\n"
        f"Predicted ImageNet top-1: {prediction(winner.model)}.\n"
        f"{result.verdict.sentence}\n"
        f"{versions}\n"
        f"t2tbuild train {best}"
    )
