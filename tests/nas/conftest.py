"""Searches that take a second: a small base, and a few training steps or a fake trainer."""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from t2tbuild import load_search_spec, predict_cost
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan, plan
from t2tbuild.nas.record import Rung
from t2tbuild.nas.supernet.pool import SupernetMember, pool
from t2tbuild.spec import ModelSpec, SearchSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.training.data import Data
from t2tbuild.training.evaluate import Evaluation
from tests.nas.postgresql import Server, installed, server

BASE = """version: 1
model:
  name: small
  image_size: 32
  tokenizer:
    stages:
      - {patch_size: 7, overlap: 3, token_dim: 16, attention: performer}
      - {patch_size: 3, overlap: 1, token_dim: 16, attention: performer}
      - {patch_size: 3, overlap: 1}
  backbone: {depth: 2, embed_dim: 64, num_heads: 2, mlp_ratio: 2}
"""
SEARCH = """version: 1
search:
  name: tiny
  base: small.yaml
  budget: {macs: 3M}
  space:
    backbone.embed_dim: {choices: [64, 96, 128]}
    backbone.mlp_ratio: {choices: [1, 2, 3, 4]}
    backbone.depth: {fill: [0.5, 1.0]}
    tokenizer.stages.*.attention: {choices: [performer, transformer]}
    tokenizer.stages.*.token_dim: {choices: [8, 16]}
  proxy:
    {data: {kind: digits, image_size: 16}, rungs: [1, 2], reduction_factor: 2, batch_size: 16, seeds: 2, evaluations: 1}
  confirm: {best: 1, random: 1, seeds: 1}
  zero_cost: {names: [snip], pool: 1}
  trials: 4
"""
SUPERNET = "search.supernet={steps: 3, candidates: 24, validity: 8, best: 2, random: 2, budgets: [1800K]}"


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., SearchSpec]:
    """Return a function that writes the small search and loads it with overrides."""
    return lambda *overrides: tiny_search(tmp_path, *overrides)


def tiny_search(folder: Path, *overrides: str) -> SearchSpec:
    (folder / "small.yaml").write_text(BASE)
    (folder / "tiny.yaml").write_text(SEARCH)
    return load_search_spec(folder / "tiny.yaml", list(overrides))


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Return the plan of the small search with a supernet."""
    return plan(tiny_search(tmp_path_factory.mktemp("plan"), SUPERNET))


@pytest.fixture(scope="session")
def members(planned: Plan) -> tuple[SupernetMember, ...]:
    """Return the members of its supernet, the cheapest first."""
    return pool(planned)


class FakeTrainer:
    """A training that takes no time. Its results depend on the shape and the seed, like real ones."""

    quality: Callable[[ModelSpec], float] = staticmethod(lambda model: 0.01 * model.backbone.embed_dim)
    noise = 0.02

    def __init__(self, model: ModelSpec, _data: Data, proxy: Proxy, *, seed: int, device: torch.device) -> None:
        self.model, self.proxy, self.seed, self.device = model, proxy, seed, device
        self.step = proxy.rungs[-1]

    def train(self, check: Callable[[], None], folder: Path | None = None) -> Iterator[Rung]:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        for steps in self.proxy.rungs:
            check()
            noise = random.Random(f"{self.seed} {steps} {key_of(self.model)}").gauss(0, self.noise)
            accuracy = self.quality(self.model) + noise
            yield Rung(steps, min(1.0, max(0.0, accuracy)), 2.0 ** -(accuracy + steps / 100), 1.0)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        assert weights

    def restore(self, _folder: Path) -> bool:
        return True

    def test(self) -> Evaluation:
        return Evaluation(loss=0.5, accuracy=0.9, top5=1.0, per_class=())


@pytest.fixture
def fake_trainer(monkeypatch: pytest.MonkeyPatch) -> type[FakeTrainer]:
    """Replace every training of a test by a fake one, and fvcore's count by the closed form, which equals it."""

    class Own(FakeTrainer):
        pass

    monkeypatch.setattr("t2tbuild.nas.proxy_evaluator.ProxyTrainer", Own)
    monkeypatch.setattr("t2tbuild.nas.evaluator.count_model", predict_cost)
    return Own


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A real server. Tests that need one are skipped where it is not installed."""
    if not installed():
        pytest.skip("PostgreSQL is not installed")
    with server() as running:
        yield running


def states(url: str) -> dict[Any, int]:
    """Return the number of trials by state, over all studies of a storage."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.text("select state, count(*) from trials group by state")).fetchall()
    engine.dispose()
    return dict(map(tuple, rows))
