"""Measure the validity of each kind of evidence: python benchmarks/validity.py [--cache FILE] [--write].

Compares every kind of evidence of a search with published ImageNet top-1, by Kendall's tau, with 95% intervals by
bootstrap over models, and by the pairs whose order is known. Three sets of models:

- the paper's: the 16 ViTs and T2T-ViTs of Tables 6 and 7, all trained by one recipe;
- those of nearly equal MACs among them: pairs that differ by at most a tenth;
- other sources: published models with plain patches at 224 pixels, compared within recipes only.

The predictor is fitted without the predicted model, and without its whole source. Zero-cost proxies are computed at
full size and as narrow proxies. Proxy trainings are the default's, with two seeds (one for other sources); tau is the
mean over both, as a search trains a candidate once. --write writes the table that the search reads,
t2tbuild/accuracy/validity.yaml. --cache keeps measurements, so that an interrupted run can be continued.
--other-sources measures nothing: it adds the full-size zero-cost proxies in the cache, on other sources, to the table.
"""

import argparse
import datetime
import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from t2tbuild import load_spec, predict_cost
from t2tbuild.accuracy import validity
from t2tbuild.accuracy.features import shape_of
from t2tbuild.accuracy.fit import fit_predictor, imagenet_models
from t2tbuild.accuracy.pairs import KNOWN_PAIRS, KnownPair
from t2tbuild.accuracy.published import PublishedModel, reserved_sources
from t2tbuild.build import build_model
from t2tbuild.files import atomic_write
from t2tbuild.layout import Grid
from t2tbuild.nas.proxy import make_proxy_model, resolve_width
from t2tbuild.nas.proxy_training import ProxyTrainer
from t2tbuild.nas.ranking import training_configuration, zero_cost_configuration
from t2tbuild.nas.zero_cost import zero_cost_proxies
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.search import ZeroCostName
from t2tbuild.training.data import load_data
from t2tbuild.training.sampler import EpochSampler

RESAMPLES = 2_000
SEEDS = (101, 202)
NEAR = 0.1
"""Models whose MACs differ by at most this share are of nearly equal cost."""
PAPER = ("vit_s16", "vit_dn", "vit_sw", "vit_dense", "vit_se", "vit_resnext", "vit_ghost")
PAPER += ("t2t_vit_14", "t2t_vit_14_wide", "t2t_vit_dense", "t2t_vit_14_se", "t2t_vit_14_resnext", "t2t_vit_16_ghost")
PAPER += ("t2t_vit_14_wo_t2t", "t2t_vit_t_14", "t2t_vit_c_14")
ZERO_COST = tuple(name for name in get_args(ZeroCostName) if name not in ("params", "macs", "depth"))
DIGITS = 9
"""Predictions that agree to so many digits are ties, whatever the rounding of a sum."""
FULL_BATCH = 8
"""Images in the batch of zero-cost proxies at full size."""
ZERO_COST_SEEDS = range(5)
"""Seeds of the narrow zero-cost proxies of the paper's models; the table of validity has the first, as a search."""


@dataclass(frozen=True)
class RatedModel:
    """A published model. A `group` was trained by one recipe; `name` is the source and the name in it."""

    name: str
    group: str
    row: PublishedModel
    model: ModelSpec

    @property
    def top1(self) -> float:
        return self.row.top1


Values = Mapping[str, float]
"""The values of one kind of evidence by the names of models, higher is better."""


def paper_models(published: Sequence[PublishedModel]) -> list[RatedModel]:
    rows = {one.name: one for one in published if one.source == "t2t"}
    return [RatedModel(f"t2t {name}", "paper", rows[name], _ours(name)) for name in PAPER]


def _ours(name: str) -> ModelSpec:
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    return model


def other_models(published: Sequence[PublishedModel]) -> list[RatedModel]:
    """Return models with patches of 16 at 224 pixels, one per shape of a recipe, of recipes with three shapes."""
    groups: dict[str, dict[str, RatedModel]] = {}
    for one in published:
        shape = shape_of(one.model)
        if one.source == "t2t" or shape.tokenizer != "patch 16" or shape.side != 224:
            continue
        rated = RatedModel(f"{one.source} {one.name}", f"{one.source} {one.recipe.name}", one, one.model)
        groups.setdefault(rated.group, {}).setdefault(shape.key, rated)
    return [rated for shapes in groups.values() if len(shapes) >= 3 for rated in shapes.values()]


def pair_models(published: Sequence[PublishedModel]) -> list[RatedModel]:
    """Return the models of the known pairs."""
    wanted = {name for pair in KNOWN_PAIRS for name in (pair.better, pair.worse)}
    rows = [one for one in published if (one.source, one.name) in wanted]
    return [RatedModel(f"{one.source} {one.name}", "pairs", one, one.model) for one in rows]


# Measuring


def key_of(model: ModelSpec) -> str:
    return model.model_copy(update={"name": "model"}).model_dump_json()


def narrow_key(text: str, seed: int = 0) -> str:
    """Return the key of narrow zero-cost proxies in the cache."""
    return f"narrow {seed} {text}" if seed else f"narrow {text}"


def train(text: str, seed: int) -> dict[str, float]:
    """Return the score at each rung of the default proxy training of a model."""
    torch.set_num_threads(1)
    model, proxy, device = ModelSpec.model_validate_json(text), resolve_width(Proxy(), "cpu"), torch.device("cpu")
    data = load_data(proxy.data, image=Grid(*proxy.image_shape(model)), in_chans=model.in_chans, device=device)
    trainer = ProxyTrainer(make_proxy_model(model, proxy, "cpu"), data, proxy, seed=seed, device=device)
    return {str(rung.steps): rung.score(proxy.metric) for rung in trainer.train(lambda: None)}


def score(text: str, full: bool, seed: int = 0) -> dict[str, float]:
    """Return the zero-cost proxies of a model, at full size or of the narrow proxy model of a search.

    `seed` is that of the weights and of the batch.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model, proxy, device = ModelSpec.model_validate_json(text), resolve_width(Proxy(), "cpu"), torch.device("cpu")
    if full:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(FULL_BATCH, 3, *model.image, generator=generator)
        labels = torch.randint(model.num_classes, (FULL_BATCH,), generator=generator)
        return zero_cost_proxies(ZERO_COST, model, build_model(model), images, labels)
    data = load_data(proxy.data, image=Grid(*proxy.image_shape(model)), in_chans=model.in_chans, device=device)
    images, labels = next(
        iter(data.train_batches(EpochSampler(data.size("train"), proxy.batch_size, seed), epoch=0, step=0, epochs=1))
    )
    return zero_cost_proxies(ZERO_COST, model, build_model(make_proxy_model(model, proxy, "cpu")), images, labels)


def measure(
    models: Sequence[ModelSpec], small: Sequence[ModelSpec], cache: dict[str, Any], path: Path | None, workers: int
) -> None:
    """Add missing measurements to the cache; only models in `small` get more than one seed."""
    texts = list(dict.fromkeys(key_of(model) for model in models))
    whole = {key_of(model) for model in small}
    jobs: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []
    jobs += [(narrow_key(text), score, (text, False)) for text in texts]
    jobs += [
        (narrow_key(text, s), score, (text, False, s)) for s in ZERO_COST_SEEDS[1:] for text in texts if text in whole
    ]
    jobs += [(f"full {text}", score, (text, True)) for text in texts]
    jobs += [(f"train {seed} {text}", train, (text, seed)) for seed in SEEDS for text in texts if text in whole]
    jobs += [(f"train {SEEDS[0]} {text}", train, (text, SEEDS[0])) for text in texts if text not in whole]
    left = [job for job in jobs if job[0] not in cache]
    with ProcessPoolExecutor(workers) as pool, Progress() as progress:
        task = progress.add_task("trainings and zero-cost proxies", total=len(left))
        futures = {pool.submit(call, *given): name for name, call, given in left}
        for future in as_completed(futures):
            cache[futures[future]] = future.result()
            progress.advance(task)
            if path is not None:
                path.write_text(json.dumps(cache))


# Statistics


def concordance(values: Sequence[float], rated: Sequence[RatedModel], counts: np.ndarray, near: bool) -> np.ndarray:
    """Return Kendall's tau-b over the pairs within groups, for each row of `counts`, the draws of each model."""
    x, y = np.array(values), np.array([one.top1 for one in rated])
    macs = np.log([float(predict_cost(one.model).macs) for one in rated])
    groups = np.array([one.group for one in rated])
    pairs = np.triu(groups[:, None] == groups[None], 1).astype(float)
    if near:
        pairs *= np.abs(macs[:, None] - macs[None]) <= NEAR
    first, second = np.sign(x[:, None] - x[None]), np.sign(y[:, None] - y[None])

    def total(of_pairs: np.ndarray) -> np.ndarray:
        return ((counts @ (pairs * of_pairs)) * counts).sum(axis=1)

    norm = np.sqrt(total(first**2) * total(second**2))
    return np.divide(total(first * second), norm, out=np.full(len(counts), np.nan), where=norm > 0)


def agreement(seeds: Sequence[Values], rated: Sequence[RatedModel], near: bool = False) -> dict[str, Any] | None:
    """Return the number of models, tau as the mean over seeds, and its bootstrap interval over models or groups."""
    known = [one for one in rated if all(math.isfinite(values.get(one.name, math.nan)) for values in seeds)]
    generator, groups = np.random.default_rng(0), sorted({one.group for one in known})
    drawn = len(groups) if len(groups) > 1 else len(known)
    draws = generator.integers(drawn, size=(RESAMPLES, drawn)) if drawn else np.zeros((RESAMPLES, 0), dtype=int)
    counts = np.array([np.bincount(one, minlength=drawn) for one in draws], dtype=float)
    if len(groups) > 1:  # a pair lies in one group, and counts as often as that was drawn
        counts = np.sqrt(counts[:, [groups.index(one.group) for one in known]])
    counts = np.vstack([np.ones((1, len(known))), counts])
    taus = [concordance([values[one.name] for one in known], known, counts, near) for values in seeds]
    tau, *found = np.mean(taus, axis=0)
    if math.isnan(tau):
        return None
    low, high = np.nanquantile(found, [0.025, 0.975])
    numbers = {"tau": float(tau), "low": float(low), "high": float(high)}
    return {"models": len(known)} | {name: round(number, 3) for name, number in numbers.items()}


def ordered(seeds: Sequence[Values]) -> list[bool]:
    """Return for each known pair whether its better model has the larger value with every seed."""

    def right(values: Values, pair: KnownPair) -> bool:
        better, worse = (values.get(" ".join(name), math.nan) for name in (pair.better, pair.worse))
        return better > worse

    return [all(right(values, pair) for values in seeds) for pair in KNOWN_PAIRS]


# Evidence


def predictions(published: Sequence[PublishedModel], rated: Sequence[RatedModel]) -> tuple[Values, Values]:
    """Return the predicted log accuracy of each model, fitted without the model, and without its source."""
    sources = {one.row.source for one in rated}
    without = {name: fit_predictor([one for one in published if one.source != name], 1) for name in sources}
    one_out, source_out = {}, {}
    for one in rated:
        shape, row = shape_of(one.model), one.row
        rest = [other for other in published if (other.source, other.name) != (row.source, row.name)]
        one_out[one.name] = -round(fit_predictor(rest, 1).estimate(shape, row.recipe.name).mean, DIGITS)
        source_out[one.name] = -round(without[row.source].estimate(shape, "unknown").mean, DIGITS)
    return one_out, source_out


def evidence(cache: Mapping[str, Any], published: Sequence[PublishedModel]) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    paper, others, pairs = paper_models(published), other_models(published), pair_models(published)
    rated = list({one.name: one for one in (*others, *pairs, *paper)}.values())
    vit, t2t = ([one for one in paper if one.name.startswith(f"t2t {start}")] for start in ("vit", "t2t"))
    rows = []

    def add(kind: str, configuration: Mapping[str, Any], *seeds: Values) -> None:
        right, summary = ordered(seeds), agreement(seeds, paper)
        if summary is None:
            return
        summary |= {"pairs_right": sum(right), "pairs": len(right)}
        parts = {"vit": agreement(seeds, vit), "t2t": agreement(seeds, t2t)}
        parts |= {"near_equal_macs": agreement(seeds, paper, near=True), "other_sources": agreement(seeds[:1], others)}
        rows.append({"kind": kind, "configuration": dict(configuration), "paper": summary} | parts | {"ordered": right})

    one_out, source_out = predictions(published, rated)
    add(validity.PREDICTOR, {"fitted_without": "the model"}, one_out)
    add(validity.PREDICTOR, {"fitted_without": "its source"}, source_out)
    simple: dict[str, Callable[[ModelSpec], float]] = {
        "macs": lambda model: predict_cost(model).macs,
        "params": lambda model: predict_cost(model).params,
        "depth": lambda model: model.backbone.depth,
        "depth x ln(width)": lambda model: model.backbone.depth * math.log(shape_of(model).width),
    }
    for name, rule in simple.items():
        add(name, {}, {one.name: float(rule(one.model)) for one in rated})
    proxy = resolve_width(Proxy(), "cpu")
    for place in ("narrow", "full"):
        full = {"size": "full", "batch_size": FULL_BATCH, "images": "noise"}
        for name in ZERO_COST:
            configuration = full if place == "full" else zero_cost_configuration(proxy, name)
            measured = {one.name: cache.get(f"{place} {key_of(one.model)}", {}).get(name, math.nan) for one in rated}
            add(name, configuration, measured)
    for steps in proxy.rungs:
        seeds = [
            {one.name: found[str(steps)] for one in rated if (found := cache.get(f"train {seed} {key_of(one.model)}"))}
            for seed in SEEDS
        ]
        add(validity.PROXY_TRAINING, training_configuration(proxy, steps), *seeds)
    return rows


def with_other_sources(
    rows: Sequence[Mapping[str, Any]], cache: Mapping[str, Any], published: Sequence[PublishedModel]
) -> list[dict[str, Any]]:
    """Return the shipped rows, those of full-size zero-cost proxies with their agreement on other sources."""
    others, found = other_models(published), []
    for row in rows:
        if row["configuration"].get("size") == "full":
            values = {one.name: cache.get(f"full {key_of(one.model)}", {}).get(row["kind"], math.nan) for one in others}
            row = {**row, "other_sources": agreement([values], others)}
        found.append(dict(row))
    return found


COLUMNS = ("evidence", "ViT rows", "T2T rows", "both", "near-equal MACs", "other sources", "pairs")


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the table as text: tau with its interval of each kind of evidence, on each set of models."""
    found = []
    for one in rows:
        given = one["configuration"]
        how = "narrow" if given else ""
        for key, text in (("fitted_without", "without {}"), ("size", "{} size"), ("steps", "{} steps")):
            how = text.format(given[key]) if key in given else how
        parts = [one[part] for part in ("vit", "t2t", "paper", "near_equal_macs", "other_sources")]
        words = [f"{part['tau']:+.2f} ({part['low']:+.2f} to {part['high']:+.2f})" if part else "" for part in parts]
        pairs = f"{one['paper']['pairs_right']} of {one['paper']['pairs']}"
        found.append([f"{one['kind']}, {how}".removesuffix(", "), *words, pairs])
    return found


def show(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Kendall's tau with published ImageNet top-1 (95% interval)", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "evidence" else "right")
    for row in cells(rows):
        table.add_row(*row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--paper", action="store_true", help="train the paper's models and the known pairs' alone")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument(
        "--other-sources", action="store_true", help="keep the shipped table; add full-size proxies of other sources"
    )
    given = parser.parse_args()
    cache = json.loads(given.cache.read_text()) if given.cache and given.cache.exists() else {}
    published = [one for one in imagenet_models() if one.source not in reserved_sources()]
    small = [one.model for one in (*paper_models(published), *pair_models(published))]
    models = small if given.paper else [*small, *(one.model for one in other_models(published))]
    if given.other_sources:
        rows = with_other_sources(validity.load_rows(), cache, published)
    else:
        measure(models, small, cache, given.cache, given.workers)
        rows = evidence(cache, published)
    if given.markdown:
        for row in (COLUMNS, ["---"] * len(COLUMNS), *cells(rows)):
            print(f"| {' | '.join(row)} |")
    else:
        Console(width=160).print(show(rows))
    if given.write:
        measured = {"date": str(datetime.date.today()), "command": "python benchmarks/validity.py --write"}
        measured |= {name: version(name) for name in ("t2tbuild", "torch", "timm", "scikit-learn")}
        measured |= {"device": f"CPU, {platform.machine()}, one thread"}
        if given.other_sources:
            added = f"{measured['date']}, torch {measured['torch']}"
            measured = dict(validity.load_provenance()) | {"full_size_other_sources": added}
        text = "# Measured by benchmarks/validity.py; accuracy/validity.py decides what counts. Do not edit by hand.\n"
        data = {"measured": measured, "evidence": rows}
        text += yaml.safe_dump(data, sort_keys=False, width=120, default_flow_style=None)
        atomic_write(validity.FILE, text)


if __name__ == "__main__":
    main()
