"""The check, before a search trains anything, that some candidate is within the latency limit."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import ValidationError

from t2tbuild.bench.latency_model import MIN_MODELS, Work, latency_features
from t2tbuild.bench.measure_command import require_consent
from t2tbuild.errors import FieldError, InputError, T2TBuildError
from t2tbuild.nas.budget import sample_assignments
from t2tbuild.nas.latency_meter import LatencyMeter
from t2tbuild.nas.latency_readings import MemoryStore
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan
from t2tbuild.spec.latency import LatencyLimit
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.units import milliseconds
from t2tbuild.training.reports import Notice
from t2tbuild.weights.formats import Format

SAMPLED = 400
"""At most so many members of the space are compared by their work."""
PROPOSED = 3
"""Of the other members, so many are measured as the latency model predicts to be the fastest."""


@contextmanager
def checked_latencies(
    planned: Plan, run: Path, device: torch.device, on_progress: Callable[[Notice], None], *, is_ours: bool
) -> Iterator[MemoryStore]:
    """Yield the latencies that show, before a run is written, that some candidate of a new search is within the limit.

    Raises InputError or FieldError where none is, or where the method cannot be used. A user's own evaluator, where
    `is_ours` is false, measures latencies itself.
    """
    limit, readings = planned.search.budget.latency, MemoryStore()
    if is_ours and limit is not None and not (run / "spec.yaml").exists():
        require_method(limit)
        require_candidate_within(
            LatencyMeter(limit, planned.base, device, readings), planned, lambda text: on_progress(Notice(text))
        )
    yield readings


def require_method(limit: LatencyLimit) -> None:
    """Raise InputError where the method of a limit cannot be used: without consent, or without a package."""
    if limit.command is not None:
        require_consent(limit.command)
        Format.ONNX.require_packages("search.budget.latency.command")
    elif limit.runtime == "onnxruntime":
        Format.ONNX.require_packages("search.budget.latency: runtime: onnxruntime")


def require_candidate_within(meter: LatencyMeter, planned: Plan, notice: Callable[[str], None]) -> None:
    """Raise FieldError where neither the base nor the fastest members of the space are within the limit.

    Measured after the base are the members with the least work, until there are enough for a latency model, then those
    that it predicts to be the fastest. Where it does not show that all others are over the limit, nothing is raised:
    the search measures them. `notice` gets the latency of the base, and what is not known.
    """
    assert meter.max is not None
    base_key, limit = key_of(planned.base), milliseconds(meter.max)
    base = _measure(meter, planned.base)
    reused = f"; measured by an earlier search, see {meter.cache.folder}" if meter.cache and meter.reused else ""
    notice(f"latency of the base: {milliseconds(base)} ms, the limit is {limit} ms ({meter}){reused}")
    if base <= meter.max:
        return
    measured = {base_key: base}
    members = {key_of(model): model for model in _sample_members(planned) if key_of(model) != base_key}
    works = {key: latency_features(model, meter.limit.batch) for key, model in members.items()}
    for key in rank_by_work(works)[: MIN_MODELS - len(measured)]:
        measured[key] = _measure(meter, members[key])
        if measured[key] <= meter.max:
            return
    fastest_predicted = sorted(predicted := _predict(meter, works, measured), key=lambda key: (predicted[key], key))
    errors = []
    for key in fastest_predicted[:PROPOSED]:
        measured[key] = _measure(meter, members[key])
        errors.append(predicted[key] / measured[key] - 1)
        if measured[key] <= meter.max:
            return
    found = (
        f"none of the {len(measured)} measured is within {limit} ms"
        + (f", of which {len(errors)} were predicted the fastest" if errors else "")
        + f": the fastest was {milliseconds(min(measured.values()))} ms; the base has {milliseconds(base)} ms ({meter})"
    )
    others = members.keys() - measured.keys()
    if all(is_excluded(predicted.get(key), errors, meter.max) for key in others):
        hint = f"write at least {1000 * 1.05 * min(measured.values()):.3g}ms, or widen search.space"
        raise FieldError(("search", "budget", "latency"), "latency", found, hint)
    notice(f"{found}; the others may be, so the search measures its candidates")


def is_excluded(predicted: float | None, errors: Sequence[float], limit: float) -> bool:
    """Return whether a prediction is over the limit by more than twice the largest relative error of earlier ones.

    >>> is_excluded(0.013, [0.1, -0.05], limit=0.010), is_excluded(0.013, [-0.2], limit=0.010)
    (True, False)
    """
    return predicted is not None and bool(errors) and predicted > limit * (1 + 2 * max(map(abs, errors)))


def _predict(meter: LatencyMeter, works: Mapping[str, Work | None], measured: Collection[str]) -> dict[str, float]:
    """Return the predicted seconds of the members that were not measured, where there is a latency model."""
    model = meter.fit()
    if model is None:
        return {}
    return {key: model.predict(work) for key, work in works.items() if work is not None and key not in measured}


def _measure(meter: LatencyMeter, model: ModelSpec) -> float:
    """Return the latency of a model. Raises InputError, with the reason, where it cannot be measured."""
    try:
        return meter.measure(model)
    except InputError:
        raise
    except (T2TBuildError, RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"search.budget.latency: {model.name} cannot be measured: {reason}") from error


def _sample_members(planned: Plan) -> list[ModelSpec]:
    """Return members of the space within the other limits, the smallest of each assignment."""
    found = []
    for assignment in itertools.islice(sample_assignments(planned.space), SAMPLED):
        try:
            members = planned.members.solve(assignment)
        except (ValidationError, LookupError):
            continue
        found += [members[0].model] if members else []
    return found


def rank_by_work(works: Mapping[str, Work | None]) -> list[str]:
    """Return the models, those with the fewest multiply-adds, kernels and bytes first; last what cannot be ranked.

    >>> rank_by_work({"a": None, "b": {"x macs": 1, "kernels": 9}, "c": {"x macs": 5, "kernels": 2}})
    ['b', 'c', 'a']
    """
    known = {key: work for key, work in works.items() if work is not None}
    orders = [sorted(known, key=lambda key: (_sum(known[key], unit), key)) for unit in ("macs", "kernels", "bytes")]
    return list(dict.fromkeys([*itertools.chain.from_iterable(zip(*orders, strict=True)), *works]))


def _sum(work: Work, unit: str) -> float:
    return sum(amount for kind, amount in work.items() if kind.endswith(unit))
