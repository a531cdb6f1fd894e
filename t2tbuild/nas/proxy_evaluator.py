"""Our evaluator: latency, zero-cost proxies and proxy training."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from t2tbuild.bench.steps import inference_step
from t2tbuild.bench.timing import time_steps
from t2tbuild.build import build_model
from t2tbuild.errors import T2TBuildError
from t2tbuild.layout import Grid
from t2tbuild.nas.draw import Draw
from t2tbuild.nas.evaluator import (
    Candidate,
    Evaluator,
    EvaluatorFunction,
    FunctionEvaluator,
    Measurements,
    PredictedLatency,
    needs,
)
from t2tbuild.nas.evaluator_function import load_function
from t2tbuild.nas.latency_meter import LATENCY_SECONDS, LatencyMeter, make_meter
from t2tbuild.nas.latency_readings import LatencyStore
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.proxy import make_proxy_model, own_data_errors
from t2tbuild.nas.proxy_training import ProxyTrainer
from t2tbuild.nas.record import Rung
from t2tbuild.nas.zero_cost import zero_cost_proxies
from t2tbuild.spec.data import InMemory
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.search import Search
from t2tbuild.training.data import Data, load_data
from t2tbuild.training.data.cached import load_cached
from t2tbuild.training.data.image_cache import CacheCallbacks
from t2tbuild.training.data.python_datasets import PythonDatasets
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.weights.cache import CACHE, cache_folder


class ProxyEvaluator:
    """The evaluator of one search on one device: latency, zero-cost proxies and proxy training on its data."""

    def __init__(self, search: Search, data: Data, device: torch.device, meter: LatencyMeter | None = None) -> None:
        self.search, self.data, self.device, self.meter = search, data, device, meter
        self._batch: tuple[Tensor, Tensor] | None = None
        self._scores: dict[str, dict[str, float]] = {}
        self._training: tuple[Candidate, Iterator[Rung]] | None = None

    def evaluate(self, candidate: Candidate, steps: int) -> Measurements:
        """Return latency and zero-cost proxies for 0 steps, and the result of the proxy training for more."""
        if steps == 0:
            latency = None
            if self.meter is not None and needs("latency", self.search):
                if (predicted := self.meter.predict_far_over(candidate.model)) is not None:
                    return PredictedLatency(latency=predicted)
                latency = self.meter.measure(candidate.model, candidate.check)
            names = self.search.zero_cost.names
            return Measurements(
                latency=latency, scores=self._zero_cost(candidate.key, candidate.model) if names else {}
            )
        if self._training is None or self._training[0] is not candidate:
            self._training = None  # frees the memory of the candidate before
            self._training = candidate, self.make_trainer(candidate).train(candidate.check, candidate.folder)
        rung = next(rung for rung in self._training[1] if rung.steps == steps)
        return Measurements(accuracy=rung.accuracy, loss=rung.loss, seconds=rung.seconds)

    def proxy_of(self, candidate: Candidate) -> Proxy:
        """Return the proxy settings of a training, at full width where the candidate asks for it."""
        return self.search.proxy.model_copy(update={"width": "full"}) if candidate.full else self.search.proxy

    def make_trainer(self, candidate: Candidate) -> ProxyTrainer:
        """Return the trainer of a candidate, before its first step."""
        return self.trainer_of(candidate.model, self.proxy_of(candidate), seed=candidate.seed)

    def trainer_of(self, model: ModelSpec, proxy: Proxy, *, seed: int) -> ProxyTrainer:
        """Return the trainer of a model, before its first step."""
        proxy_model = make_proxy_model(model, proxy, self.device.type)
        return ProxyTrainer(proxy_model, self.data, proxy, seed=seed, device=self.device)

    def choose_draw(self, draws: Sequence[Draw], name: str) -> Draw:
        """Return the draw that a zero-cost proxy ranks best."""
        return max(draws, key=lambda draw: self._zero_cost(draw.key, draw.model).get(name, -math.inf))

    def _zero_cost(self, key: str, model: ModelSpec) -> dict[str, float]:
        """Return the zero-cost proxies of a candidate, cached; none if it cannot be built or run."""
        if key not in self._scores:
            images, labels = self._one_batch()
            torch.manual_seed(self.search.seed)
            try:
                built = build_model(make_proxy_model(model, self.search.proxy, self.device.type)).to(self.device)
                self._scores[key] = zero_cost_proxies(self.search.zero_cost.names, model, built, images, labels)
            except (RuntimeError, MemoryError, ValueError, ArithmeticError, T2TBuildError):
                self._scores[key] = {}
        return self._scores[key]

    def _one_batch(self) -> tuple[Tensor, Tensor]:
        """Return the batch of training images for the zero-cost proxies, the same for every candidate."""
        if self._batch is None:
            sampler = EpochSampler(self.data.size("train"), self.search.proxy.batch_size, self.search.seed)
            self._batch = next(iter(self.data.train_batches(sampler, epoch=0, step=0, epochs=1)))
        return self._batch


def make_evaluator(
    planned: Plan,
    device: torch.device,
    function: EvaluatorFunction | None = None,
    *,
    run: Path | None = None,
    callbacks: CacheCallbacks | None = None,
    datasets: PythonDatasets | None = None,
    store: LatencyStore | None = None,
) -> Evaluator:
    """Return the evaluator of a search: the user's own, or proxy training on the data, which are loaded.

    Images from files are cached in the run directory, unless the spec or T2TBUILD_CACHE names another folder. Latencies
    are kept in `store`.
    """
    search = planned.search
    if function is None and search.evaluator is not None:
        function = load_function(search.evaluator)
    if function is not None:
        return FunctionEvaluator(function, search)
    data = load_proxy_data(planned, device, run=run, callbacks=callbacks, datasets=datasets)
    return ProxyEvaluator(search, data, device, make_meter(planned, device, store))


def load_proxy_data(
    planned: Plan,
    device: torch.device,
    *,
    run: Path | None = None,
    callbacks: CacheCallbacks | None = None,
    datasets: PythonDatasets | None = None,
) -> Data:
    """Load the data of a proxy. Raises FieldError or InputError when they are not there or do not fit the base."""
    proxy, image = planned.search.proxy, Grid(*planned.search.proxy.image_shape(planned.base))
    in_chans = planned.base.in_chans
    with own_data_errors():
        if isinstance(proxy.data, InMemory):
            return load_data(proxy.data, image=image, in_chans=in_chans, device=device)
        return load_cached(
            proxy.data,
            image=image,
            in_chans=in_chans,
            device=device,
            images=proxy.images,
            seed=planned.search.seed,
            folder=images_folder(proxy, run),
            callbacks=callbacks,
            datasets=datasets,
        )


def images_folder(proxy: Proxy, run: Path | None) -> Path:
    """Return the folder of the decoded images: the spec's, images/ in T2TBUILD_CACHE, or cache/ in the run's."""
    if proxy.cache:
        return Path(proxy.cache).expanduser()
    return cache_folder() / "images" if os.environ.get(CACHE, "").strip() else (run or Path()) / "cache"


def measure_latencies(models: Sequence[ModelSpec], device: torch.device) -> list[float]:
    """Return for each model the median seconds of a forward pass of one image in torch, at full size, in float32.

    The models are timed in turns, so that a slow moment of the machine affects all of them.
    """
    steps = {}
    for index, model in enumerate(models):
        built = build_model(model).to(device).eval()
        images = torch.randn(1, model.in_chans, *model.image, device=device)
        steps[index] = inference_step(built, images, torch.float32)
    speeds = time_steps(steps, device, seconds=LATENCY_SECONDS, rounds=3)
    return [speeds[index].median for index in range(len(models))]
