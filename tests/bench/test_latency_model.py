"""The latency model: a table of seconds per unit of work, from models that were measured."""

import random

import pytest

from t2tbuild.bench.latency_model import fit_latency_model, latency_features
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.with_changes import with_changes

TABLE = {"linear macs": 2e-11, "linear bytes": 1e-10, "attention macs": 5e-11, "norm bytes": 3e-10, "kernels": 5e-6}


def drawn(rng: random.Random) -> dict[str, float]:
    return {
        "linear macs": rng.uniform(1e8, 5e9),
        "linear bytes": rng.uniform(1e6, 1e8),
        "attention macs": rng.uniform(1e7, 1e9),
        "norm bytes": rng.uniform(1e5, 1e7),
        "kernels": rng.uniform(50, 400),
    }


def seconds(work: dict[str, float]) -> float:
    return sum(TABLE[kind] * amount for kind, amount in work.items())


def test_the_table_of_a_device_is_found_from_whole_models() -> None:
    rng = random.Random(0)
    works = [drawn(rng) for _ in range(24)]
    model = fit_latency_model(works, [seconds(work) for work in works])
    for fresh in [drawn(rng) for _ in range(20)]:
        assert model.predict(fresh) == pytest.approx(seconds(fresh), rel=0.01)


def test_no_operation_has_a_negative_time() -> None:
    rng = random.Random(1)
    works = [drawn(rng) for _ in range(8)]
    model = fit_latency_model(works, [seconds(work) * rng.uniform(0.7, 1.3) for work in works])
    assert min([*model.table.values(), model.constant]) >= 0
    assert sum(model.table.values()) > 0


def test_the_work_of_a_model_grows_with_its_depth_and_its_batch(small: ModelSpec) -> None:
    once = latency_features(small)
    deeper = latency_features(with_changes(small, {"backbone": small.backbone.model_dump() | {"depth": 3}}, "deeper"))
    batch = latency_features(small, batch=4)
    assert once and deeper and batch
    tokens, dim, hidden = small.tokens, 32, 64
    block = tokens * dim * (3 * dim + dim + 2 * hidden)  # qkv, projection, and the two layers of the MLP
    assert deeper["linear macs"] - once["linear macs"] == block
    assert deeper["attention macs"] - once["attention macs"] == 2 * tokens * tokens * dim
    assert batch["attention macs"] == 4 * once["attention macs"]
    assert batch["kernels"] == once["kernels"]
