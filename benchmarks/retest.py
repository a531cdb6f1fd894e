"""Measure the repeatability of the proxy: python benchmarks/retest.py [--candidates 24] [--out FILE].

Random candidates within the budget of a shipped search are trained twice, with two independent seeds of weights and
sample order, and ranked at every rung by each. Kendall's tau between the two rankings bounds the value of a single
training: a difference that another seed reverses is not a property of the candidate. The table also has tau of the
mean of both with depth and width, as short trainings favour models that learn fast. Intervals: bootstrap over
candidates.

Measured on 2026-11-23, two cores of an AMD EPYC, a candidate on each, torch 2.15.0, 24 candidates of deep_narrow at 5G
(docs/searching.md has what else was tried):

rung  accuracy  by loss              by accuracy          loss with depth          seconds
  40  0.16      0.75 (0.59 to 0.87)  0.50 (0.24 to 0.71)   0.11 (-0.17 to 0.42)    3
 100  0.64      0.65 (0.40 to 0.84)  0.69 (0.48 to 0.85)  -0.26 (-0.54 to 0.03)    7
 200  0.91      0.67 (0.41 to 0.86)  0.68 (0.50 to 0.83)  -0.38 (-0.66 to -0.03)  14

With the engine of 2026-11-30, on a machine that other work kept busy (so without seconds), the same within 0.01:

rung  accuracy  by loss              by accuracy          loss with depth
  40  0.16      0.75 (0.59 to 0.87)  0.50 (0.24 to 0.71)   0.11 (-0.17 to 0.42)
 100  0.64      0.65 (0.40 to 0.84)  0.69 (0.48 to 0.85)  -0.26 (-0.54 to 0.03)
 200  0.91      0.68 (0.42 to 0.86)  0.67 (0.48 to 0.83)  -0.38 (-0.66 to -0.03)
"""

import argparse
import json
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats

from t2tbuild import load_search_spec
from t2tbuild.layout import Grid
from t2tbuild.nas.budget import Infeasible, solve
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import plan
from t2tbuild.nas.proxy import make_proxy_model, resolve_width
from t2tbuild.nas.proxy_training import ProxyTrainer
from t2tbuild.nas.space import FILL
from t2tbuild.spec import ModelSpec, SearchSpec
from t2tbuild.training.data import load_data

RESAMPLES = 2_000


def draw(spec: SearchSpec, count: int, seed: int) -> list[ModelSpec]:
    """Draw different random members of the space within the budget."""
    space, chance = plan(spec).space, random.Random(seed)
    found: dict[str, ModelSpec] = {}
    while len(found) < count:
        assignment = space.draw_uniform(chance)
        if space.solved is not None:
            assignment[FILL] = chance.uniform(*space.solved.fill.fill)
        try:
            model = solve(space, assignment, spec.search.budget, f"c{len(found)}")
        except Infeasible:
            continue
        found.setdefault(key_of(model), model)
    return list(found.values())


def train(name: str, overrides: list[str], model: ModelSpec, seed: int) -> dict[str, list[float]]:
    """Train a candidate and return its rungs."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    proxy = resolve_width(load_search_spec(name, overrides).search.proxy, device.type)
    side = proxy.image_shape(model)
    data = load_data(proxy.data, image=Grid(*side), in_chans=model.in_chans, device=device)
    trainer = ProxyTrainer(make_proxy_model(model, proxy, device.type), data, proxy, seed=seed, device=device)
    rungs = list(trainer.train(lambda: None))
    return {field: [getattr(rung, field) for rung in rungs] for field in ("accuracy", "loss", "seconds")}


def tau(x: np.ndarray, y: np.ndarray) -> str:
    """Return Kendall's tau with its 95% bootstrap interval."""
    generator = np.random.default_rng(0)
    drawn = (generator.integers(0, len(x), len(x)) for _ in range(RESAMPLES))
    found = [stats.kendalltau(x[some], y[some]).statistic for some in drawn]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return f"{stats.kendalltau(x, y).statistic:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--search", default="deep_narrow")
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--draw", type=int, default=2026, help="seed of the candidates")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    spec = load_search_spec(given.search, given.overrides)
    models = draw(spec, given.candidates, given.draw)
    jobs = [(model, seed) for seed in (101, 202) for model in models]
    with ProcessPoolExecutor(given.workers) as pool:
        futures = [
            pool.submit(train, given.search, given.overrides, model, seed + i) for i, (model, seed) in enumerate(jobs)
        ]
        done = [future.result() for future in futures]
    if given.out:
        record = [
            {"depth": m.backbone.depth, "width": m.backbone.embed_dim, "seed": s} | d
            for (m, s), d in zip(jobs, done, strict=True)
        ]
        given.out.write_text(json.dumps(record))
    depth = np.array([model.backbone.depth for model in models])
    width = np.array([model.backbone.embed_dim for model in models])
    table = Table(title=f"{len(models)} random candidates of {given.search}, two seeds each; Kendall's tau (95%)")
    for column in ("rung", "accuracy", "by loss", "by accuracy", "loss with depth", "loss with width", "seconds"):
        table.add_column(column, justify="right")
    for place, steps in enumerate(spec.search.proxy.rungs):
        pick = {f: np.array([one[f][place] for one in done]).reshape(2, -1) for f in ("accuracy", "loss")}
        loss = -np.log(pick["loss"])
        table.add_row(
            str(steps),
            f"{pick['accuracy'].mean():.2f}",
            tau(*loss),
            tau(*pick["accuracy"]),
            tau(loss.mean(0), depth),
            tau(loss.mean(0), width),
            f"{np.median([sum(one['seconds'][: place + 1]) for one in done]):.0f}",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
