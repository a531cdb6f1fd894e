"""What a worker judges a candidate by on its device: latency, activation memory, cheap scores, proxy training."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from t2tbuild.bench.steps import inference_step
from t2tbuild.bench.timing import measure_speed
from t2tbuild.build import build_model
from t2tbuild.cost.memory import predict_memory
from t2tbuild.errors import T2TBuildError
from t2tbuild.nas.proxy import stand_in
from t2tbuild.nas.record import Record
from t2tbuild.nas.sampler import Draw
from t2tbuild.nas.successive_halving import ProxyTrainer
from t2tbuild.nas.zero_cost import zero_cost_proxies
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.search import Search
from t2tbuild.training.data import Data
from t2tbuild.training.sampler import EpochSampler, fold_in

LATENCY_SECONDS = 1.0
"""How long a candidate's forward pass is timed at most."""


class Evaluator:
    """The judges of one search on one device, with the data that they look at."""

    def __init__(self, search: Search, data: Data, device: torch.device) -> None:
        self.search, self.data, self.device = search, data, device
        self._batch: tuple[Tensor, Tensor] | None = None
        self._scores: dict[str, dict[str, float]] = {}

    def wants(self, measure: str) -> bool:
        """Whether the search limits or seeks a measure that costs something to find."""
        return measure in self.search.objectives or getattr(self.search.budget, measure) is not None

    def activations(self, model: ModelSpec) -> int:
        """Bytes that the forward pass of one image keeps for the backward pass, in float32."""
        return predict_memory(model).activations

    def latency(self, model: ModelSpec) -> float:
        """Median seconds of a forward pass of one image at full size, in float32."""
        return measure_latencies([model], self.device)[0]

    def proxy(self, record: Record) -> Proxy:
        """What a record's training is: of the candidate itself where that is asked for."""
        return self.search.proxy.model_copy(update={"width": "full"}) if record.full else self.search.proxy

    def climber(self, record: Record) -> ProxyTrainer:
        """The training of a record, before its first step."""
        assert record.model is not None
        proxy = self.proxy(record)
        twin = stand_in(record.model, proxy, self.device.type)
        seed = training_seed(self.search, record)
        return ProxyTrainer(twin, self.data, proxy, seed=seed, device=self.device)

    def score(self, record: Record) -> Record:
        """The record with the cheap scores of what is trained, if they are not known yet."""
        if record.scores or not self.search.scores.names or record.model is None:
            return record
        return replace(record, scores=self._scored(record.key, record.model))

    def prefer(self, draws: Sequence[Draw], name: str) -> Draw:
        """Of several draws the one that a zero-cost proxy ranks best."""
        return max(draws, key=lambda draw: self._scored(draw.key, draw.model).get(name, -math.inf))

    def _scored(self, key: str, model: ModelSpec) -> dict[str, float]:
        """The scores of a candidate; none of one that cannot be built or run, whose training will say why."""
        if key not in self._scores:
            images, labels = self._one_batch()
            torch.manual_seed(self.search.seed)
            try:
                twin = build_model(stand_in(model, self.search.proxy, self.device.type)).to(self.device)
                self._scores[key] = zero_cost_proxies(self.search.scores.names, model, twin, images, labels)
            except (RuntimeError, MemoryError, ValueError, ArithmeticError, T2TBuildError):
                self._scores[key] = {}
        return self._scores[key]

    def _one_batch(self) -> tuple[Tensor, Tensor]:
        """A batch of training images that every candidate is scored on."""
        if self._batch is None:
            order = EpochSampler(self.data.size("train"), self.search.proxy.batch_size, self.search.seed)
            self._batch = next(iter(self.data.training(order, epoch=0, step=0, epochs=1)))
        return self._batch


def measure_latencies(models: Sequence[ModelSpec], device: torch.device) -> list[float]:
    """Median seconds of a forward pass of one image at full size, in float32, of each model on a device.

    The models take turns, so that a slow moment of the machine falls on all of them alike.
    """
    steps = {}
    for index, model in enumerate(models):
        built = build_model(model).to(device).eval()
        images = torch.randn(1, model.in_chans, *model.image, device=device)
        steps[index] = inference_step(built, images, torch.float32)
    speeds = measure_speed(steps, device, seconds=LATENCY_SECONDS, rounds=3)
    return [speeds[index].median for index in range(len(models))]


def training_seed(search: Search, record: Record) -> int:
    """The seed of a training: a function of the search's seed, the candidate and which of its trainings it is."""
    return fold_in(search.seed, int(record.key, 16), record.seed) % 2**32
