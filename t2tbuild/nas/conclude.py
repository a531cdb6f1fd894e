"""The conclusion of a search: read its store, decide on the winner, and write the results."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from t2tbuild.errors import InputError, SearchError, T2TBuildError
from t2tbuild.nas.artifacts import write_artifacts
from t2tbuild.nas.latency_meter import LatencyMeter
from t2tbuild.nas.latency_readings import summarize_readings
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.predicted_verdict import decide_by_prediction, with_latencies
from t2tbuild.nas.proxy import classes_of, describe_training, has_own_data
from t2tbuild.nas.proxy_evaluator import measure_latencies
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Outcome, Record, State
from t2tbuild.nas.result import SearchResult
from t2tbuild.nas.scheduler import rank, stop_reason
from t2tbuild.nas.store.importance import compute_importance
from t2tbuild.nas.store.meta import EVALUATOR, LATENCIES, SUPERNET
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.test_eval import read_test_results
from t2tbuild.nas.timeline import build_timeline
from t2tbuild.nas.verdict import Verdict, decide
from t2tbuild.spec.data import data_root
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.search import Search
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.units import milliseconds, plural


@dataclass(frozen=True)
class Findings:
    """The records of a search, their ranking, and the verdict on them. None where nothing was trained."""

    records: tuple[Record, ...]
    reference_runs: tuple[Record, ...]
    ranking: Ranking
    verdict: Verdict | None


def conclude(planned: Plan, store: Store, outcome: Outcome) -> Findings:
    """Read the store and decide on the winner."""
    found, search = store.snapshot(), planned.search
    records, reference_runs = found.records, found.reference_runs
    ranking = rank(search, records, reference_runs)
    if search.target == "data":
        num_classes = None if evaluator_of(search, store) else _classes_of_data(planned)
        verdict = decide(records, reference_runs, search.proxy.metric, num_classes=num_classes)
        if verdict is not None and not any(record.state is State.COMPLETED for record in records):
            sentence = f"No candidate was trained to the last rung: {_list_reasons(records, outcome)}. The base wins."
            verdict = replace(verdict, sentence=sentence)
    else:
        verdict = decide_by_prediction(records, reference_runs, planned, ranking)
    verdict = verdict or decide_unfinished(search, records, reference_runs, outcome)
    supernet = store.get_meta(SUPERNET)
    if verdict is not None and supernet is not None:
        verdict = replace(verdict, sentence=f"{verdict.sentence} {supernet['sentence']}")
    return Findings(records, reference_runs, ranking, verdict)


def _classes_of_data(planned: Plan) -> int:
    """Return the number of classes of the proxy's data. The base of a search on own data has it, without the files."""
    proxy = planned.search.proxy
    return planned.base.num_classes if has_own_data(proxy) else classes_of(proxy.data)


def evaluator_of(search: Search, store: Store) -> str:
    """Return the name of the user's own evaluator, empty for proxy training."""
    return search.evaluator or store.get_meta(EVALUATOR) or ""


def decide_unfinished(
    search: Search, records: Sequence[Record], reference_runs: Sequence[Record], outcome: Outcome
) -> Verdict | None:
    """Return the verdict where no training reached the last rung: the one that came furthest, and the reasons.

    None where nothing was trained at all.
    """
    trained = [record for record in (*records, *reference_runs) if record.rungs]
    if not trained:
        return None
    best = max(trained, key=lambda record: (record.steps, record.score(search.proxy.metric)))
    sentence = (
        f"No training reached the last rung of {search.proxy.rungs[-1]} steps: {_list_reasons(records, outcome)}."
    )
    return Verdict(best, (), None, f"{sentence} {best.number} came furthest, to {best.steps} steps.")


def _list_reasons(records: Sequence[Record], outcome: Outcome) -> str:
    """Return why candidates did not reach the last rung, the most frequent reason first."""
    reasons = Counter(record.reason or str(record.state) for record in records if record.state is not State.COMPLETED)
    found = [f"{reason} ({plural(count, 'training')})" for reason, count in reasons.most_common(5)]
    if outcome in (Outcome.TIMEOUT, Outcome.UNFINISHED):
        found.insert(0, "the time was over" if outcome is Outcome.TIMEOUT else "the search has not ended")
    return "; ".join(found) or "no candidate was drawn"


def measure_equals(store: Store, verdict: Verdict, device: torch.device, meter: LatencyMeter | None = None) -> None:
    """Measure the latencies of the winner, the base and the winner's equals side by side, once.

    With a `meter`, they are measured as the candidates were, and those that were are not measured again.
    """
    if verdict.prediction is None or verdict.winner.model is None:
        return
    base = [one.model for one in store.reference_runs()[:1] if one.model is not None]
    models = [verdict.winner.model, *base, *(one.model for one in verdict.prediction.equals)]
    by_key = {key_of(model): model for model in models}
    known = store.get_meta(LATENCIES) or {}
    if by_key.keys() <= known.keys():
        return
    if meter is None:
        measured = measure_latencies(list(by_key.values()), device)
    else:
        try:
            measured = [meter.measure(model) for model in by_key.values()]
        except (T2TBuildError, RuntimeError, ValueError):  # an export or command that fails, or is not allowed again
            return
    store.set_meta(LATENCIES, known | dict(zip(by_key, measured, strict=True)))


def write_findings(
    run: Path, spec: SearchSpec, findings: Findings, store: Store, outcome: Outcome, seconds: float
) -> SearchResult:
    """Write candidates.csv, best.yaml, the front and report.json. Raises SearchError where nothing was trained."""
    records, reference_runs, latencies = findings.records, findings.reference_runs, store.get_meta(LATENCIES) or {}
    if findings.verdict is None or findings.verdict.winner.model is None:
        reasons = _list_reasons([*reference_runs, *records], outcome)
        require_within_latency(run, spec.search, [*reference_runs, *records])
        hint = ""
        if outcome is Outcome.TIMEOUT:
            hint = f"; continue with: t2tbuild search resume {run}"
        elif any(record.state is State.FAILED for record in (*reference_runs, *records)):
            hint = "; a failed training is not repeated: remove the cause, and choose another --out"
        raise SearchError(f"{run}: nothing was trained: {reasons}{hint}")
    limit = spec.search.budget.latency
    result = SearchResult(
        run=run,
        spec=spec,
        best=make_best(findings.verdict.winner.model, spec),
        verdict=with_latencies(findings.verdict, latencies, None if limit is None else limit.max),
        base=next(record for record in reference_runs if record.number == BASE),
        records=records,
        reference_runs=reference_runs,
        outcome=outcome,
        stop_reason=stop_reason(spec.search, records, reference_runs) if outcome is Outcome.CONVERGED else "",
        evaluator=evaluator_of(spec.search, store),
        trained_as=describe_evaluation(spec.search, evaluator_of(spec.search, store)),
        ranking=findings.ranking,
        test=read_test_results(store),
        seconds=seconds,
        latencies=latencies,
        latency=summarize_readings(store, sum(one.predicted_latency is not None for one in records)),
        spans=tuple(build_timeline(store.entries())),
        importance=compute_importance(store, spec.search.proxy.metric),
    )
    write_artifacts(result)
    return result


def require_within_latency(run: Path, search: Search, records: Sequence[Record]) -> None:
    """Raise InputError, with the fastest latency, where the latency limit alone kept all candidates out."""
    measured = [one.latency for one in records if one.latency is not None]
    limit = search.budget.latency
    if limit is None or not measured or any(one.state is not State.INFEASIBLE for one in records):
        return
    if min(measured) > limit.max:
        message = f"no candidate is within search.budget.latency {milliseconds(limit.max)} ms, so nothing was trained"
        hint = f"raise the limit, or widen search.space, and name a new --out than {run}"
        raise InputError(f"{message}: the fastest of {len(measured)} was {milliseconds(min(measured))} ms; {hint}")


def make_best(model: ModelSpec, spec: SearchSpec) -> Spec:
    """Return the spec of a found model; after a search for the user's own data it is trained on them."""
    search = spec.search
    if search.target == "imagenet" or not has_own_data(search.proxy):
        return Spec(version=1, extensions=spec.extensions, model=model)
    data = search.proxy.data.model_copy(update={"image_size": None})  # that of the proxy
    for field in ("root", "file"):
        path = getattr(data, field, None)
        if path is not None and "://" not in path:
            data = data.model_copy(update={field: str(data_root(path).absolute())})
    return Spec(version=1, extensions=spec.extensions, model=model, train=TrainSpec(data=data))


def describe_evaluation(search: Search, evaluator: str) -> str:
    """Return a description of how candidates were trained; the width of the proxy is resolved."""
    if evaluator:
        return f"by {evaluator}, up to {search.proxy.rungs[-1]} steps"
    return describe_training(search.proxy, "cpu")
