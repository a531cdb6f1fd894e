"""The check, before a search trains anything, that some candidate is within the latency limit."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import ValidationError

from t2tbuild.bench.latency_model import Work, fit_latency_model, work_of
from t2tbuild.bench.measure_command import require_consent
from t2tbuild.bench.runtimes import require_onnx
from t2tbuild.errors import FieldError, InputError, T2TBuildError
from t2tbuild.nas.budget import sample_assignments
from t2tbuild.nas.latency_meter import LatencyMeter
from t2tbuild.nas.latency_readings import MemoryStore, milliseconds
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan
from t2tbuild.spec.latency import LatencyLimit
from t2tbuild.spec.model import ModelSpec
from t2tbuild.training.reports import Notice

SAMPLED = 400
"""At most so many members of the space are compared by their work."""
PROPOSED = 3
"""So many members that the latency model proposes as the fastest are measured."""


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
        require_onnx("search.budget.latency.command")
    elif limit.runtime == "onnxruntime":
        require_onnx("search.budget.latency: runtime: onnxruntime")


def require_candidate_within(meter: LatencyMeter, planned: Plan, notice: Callable[[str], None]) -> None:
    """Raise FieldError where neither the base nor the fastest members of the space are within the limit.

    Measured after the base are the members with the fewest multiply-adds, kernels and bytes, then those that a latency
    model of what was measured proposes. `notice` gets the latency of the base.
    """
    assert meter.max is not None
    found = {key_of(planned.base): _measure(meter, planned.base)}
    base = found[key_of(planned.base)]
    notice(f"latency of the base: {milliseconds(base)} ms, the limit is {milliseconds(meter.max)} ms ({meter})")
    if base <= meter.max:
        return
    works = {key_of(planned.base): work_of(planned.base)}
    members = {}
    for model in _sample_members(planned):
        members[key_of(model)], works[key_of(model)] = model, work_of(model)
    for propose in (_least_work, _predicted_fastest):
        for key in propose(found, works):
            if key in members:
                found[key] = _measure(meter, members[key])
                if found[key] <= meter.max:
                    return
    fastest = min(found.values())
    message = (
        f"no candidate is within {milliseconds(meter.max)} ms: the fastest was {milliseconds(fastest)} ms, of "
        f"{len(found)} measured; the base has {milliseconds(base)} ms ({meter})"
    )
    hint = f"write at least {1000 * 1.05 * fastest:.3g}ms, or widen search.space"
    raise FieldError(("search", "budget", "latency"), "latency", message, hint)


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


def _least_work(_found: dict[str, float], works: dict[str, Work | None]) -> list[str]:
    """Return the models with the fewest multiply-adds, kernels and bytes, each once; all without a symbolic forward."""
    known = {key: work for key, work in works.items() if work is not None}
    if not known:
        return list(works)[:PROPOSED]
    amounts: list[Callable[[str], float]] = [
        lambda key: _sum(known[key], "macs"),
        lambda key: _sum(known[key], "kernels"),
        lambda key: _sum(known[key], "bytes"),
    ]
    return list(dict.fromkeys(min(known, key=amount) for amount in amounts))


def _predicted_fastest(found: dict[str, float], works: dict[str, Work | None]) -> list[str]:
    """Return the models that were not measured and are predicted to be the fastest."""
    known = {key: work for key, work in works.items() if work is not None}
    measured = [key for key in found if key in known]
    if not measured:
        return []
    model = fit_latency_model([known[key] for key in measured], [found[key] for key in measured])
    return sorted(known.keys() - found.keys(), key=lambda key: (model.predict(known[key]), key))[:PROPOSED]


def _sum(work: Work, unit: str) -> float:
    return sum(amount for kind, amount in work.items() if kind.endswith(unit))
