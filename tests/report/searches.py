"""Runs for tests of pages: a small real search, a large one with made-up losses, and a training."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from t2tbuild import load_search_spec, load_spec, predict_cost, search, write_spec
from t2tbuild.nas import Outcome, Record, SearchResult, State
from t2tbuild.nas.artifacts import write_artifacts
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import plan
from t2tbuild.nas.predicted_verdict import decide_by_prediction
from t2tbuild.nas.record import BASE, Rung, Source
from t2tbuild.nas.scheduler import rank
from t2tbuild.nas.store.importance import Importance
from t2tbuild.nas.timeline import Span
from t2tbuild.nas.verdict import decide
from t2tbuild.report.search_page import write_search_page
from t2tbuild.report.training_page import write_training_page
from t2tbuild.spec import ModelSpec, Spec
from t2tbuild.training.reports import EpochReport
from t2tbuild.training.run_directory import describe_environment
from tests.nas.conftest import FakeTrainer, tiny_search


def real_search(folder: Path) -> SearchResult:
    """Run a search of ten candidates with FakeTrainer, and write its page."""
    small = ["search.trials=10", "search.proxy.scheduler=never", "search.zero_cost.names=[]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("t2tbuild.nas.proxy_evaluator.ProxyTrainer", FakeTrainer)
        result = search(tiny_search(folder, *small), folder / "run")
    write_search_page(result)
    return result


def large_search(
    run: Path, count: int, base_name: str = "t2t_vit_14", reason: str = "", target: str = "data"
) -> SearchResult:
    """Write the artifacts and the page of a search of `count` deep_narrow candidates with made-up losses."""
    spec = load_search_spec("deep_narrow", [f"search.base={base_name}", f"search.target={target}"])
    base, rng = load_spec(base_name).model, random.Random(0)
    run.mkdir(parents=True, exist_ok=True)
    (run / "environment.json").write_text(json.dumps(describe_environment(torch.device("cpu"))))
    rungs = spec.search.proxy.rungs
    records = tuple(replace(_candidate(base, number, rungs, rng), reason=reason) for number in range(count))
    best = min(
        (record for record in records if record.state is State.COMPLETED), key=lambda record: record.rungs[-1].loss
    )
    reference_runs = tuple(_trained(base, BASE, seed, rungs, rng) for seed in range(5))
    assert best.model is not None
    reference_runs += tuple(_trained(best.model, best.number, seed, rungs, rng) for seed in (1, 2))
    ranking = rank(spec.search, records, reference_runs)
    if target == "imagenet":
        verdict = decide_by_prediction(records, reference_runs, plan(spec), ranking)
    else:
        verdict = decide(records, reference_runs, "loss")
    assert verdict is not None and verdict.winner.model is not None
    result = SearchResult(
        run=run,
        spec=spec,
        best=Spec(version=1, model=verdict.winner.model),
        verdict=verdict,
        base=reference_runs[0],
        records=records,
        reference_runs=reference_runs,
        outcome=Outcome.COMPLETE,
        trained_as="narrow proxies",
        ranking=ranking,
        test=None,
        seconds=60.0,
        spans=_spans((*reference_runs, *records)),
        importance=Importance("fANOVA", count, {"backbone.embed_dim": 0.75, "fill": 0.25}, "made up"),
    )
    write_artifacts(result)
    write_search_page(result)
    return result


def training(run: Path, epochs: int) -> None:
    """Write the run directory of a training with made-up epochs, and its page."""
    run.mkdir(parents=True, exist_ok=True)
    write_spec(load_spec("t2t_vit_7"), run / "spec.yaml")
    (run / "environment.json").write_text(json.dumps(describe_environment(torch.device("cpu"))))
    shown = [(2.3 / epoch, 2.2 / epoch, 1 - 0.9 / epoch, 1 - 0.5 / epoch) for epoch in range(1, epochs + 1)]
    reports = [EpochReport(1 + n, epochs, *one, 1500.0, 1e-3 / (1 + n), 10**9) for n, one in enumerate(shown)]
    (run / "metrics.jsonl").write_text("".join(json.dumps({"event": "epoch", **asdict(one)}) + "\n" for one in reports))
    write_training_page(run)


def _candidate(base: ModelSpec, number: int, rungs: tuple[int, ...], rng: random.Random) -> Record:
    width = rng.randrange(192, 641, 64)
    fields = {"embed_dim": width, "depth": rng.randrange(4, 30), "mlp_ratio": rng.choice([2, 3, 4])}
    if base.backbone.kind == "dense":
        fields = {"blocks": tuple(rng.randrange(1, 6) for _ in range(4)), "mlp_ratio": rng.choice([2, 3])}
    backbone = base.backbone.model_copy(update={**fields, "num_heads": base.backbone.num_heads or 8})
    if base.backbone.kind != "dense":
        backbone = backbone.model_copy(update={"num_heads": width // 64})
    model = base.model_copy(update={"name": f"deep_narrow_{number:04}", "backbone": backbone})
    return _trained(model, str(number), 0, rungs[: rng.choice([1, 2, len(rungs)])], rng)


def _trained(model: ModelSpec, number: str, seed: int, rungs: tuple[int, ...], rng: random.Random) -> Record:
    cost = predict_cost(model)
    loss = 2.3 * 0.8 ** (cost.macs / 1e9) * rng.uniform(0.9, 1.1)
    shown = tuple(Rung(steps, max(0.0, 1 - loss / 3), loss * 40 / steps, rng.uniform(1, 2)) for steps in rungs)
    return Record(
        number,
        State.COMPLETED if len(rungs) == 3 else State.PRUNED,
        model,
        key=key_of(model),
        source=rng.choice([Source.SAMPLER, Source.RANDOM]),
        seed=seed,
        params=cost.params,
        macs=cost.macs,
        rungs=shown,
        worker=f"host:{1000 + rng.randrange(8)}",
    )


def _spans(records: tuple[Record, ...]) -> tuple[Span, ...]:
    """Return spans in which each worker trains its records one after another."""
    free: dict[str, float] = {}
    spans = []
    for record in records:
        start = free.get(record.worker, 0.0)
        free[record.worker] = end = start + record.seconds
        place = (record.number, record.seed, record.full, str(record.state), record.worker)
        spans.append(Span(*place, start=start, end=end))
    return tuple(sorted(spans, key=lambda span: span.start))
