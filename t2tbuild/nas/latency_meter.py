"""Measure the latency of candidates: each shape once per device and runtime, in rounds with the base.

A candidate's time is a multiple of the base's, so that a slow phase of the machine does not decide whether it is within
the limit; a command of the user measures each candidate alone. A latency model, fitted to what was measured, predicts
the others; what it predicts far over the limit is not measured. It is used for nothing else. Readings are shared with
other searches on this machine (`LatencyCache`), except those of commands and of models with extensions.
"""

import hashlib
import importlib.util
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from t2tbuild._version import __version__
from t2tbuild.bench.hardware import device_name
from t2tbuild.bench.inputs import random_images
from t2tbuild.bench.latency_model import MIN_MODELS, LatencyModel, fit_latency_model, latency_features
from t2tbuild.bench.measure_command import run_command
from t2tbuild.bench.runtimes import onnxruntime_step, torch_step, torch_threads
from t2tbuild.bench.timing import Step, time_rounds
from t2tbuild.build import build_model
from t2tbuild.nas.evaluator import needs
from t2tbuild.nas.latency_cache import LatencyCache
from t2tbuild.nas.latency_readings import LatencyMeasurement, LatencyStore, MemoryStore, Readings, error_of
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan
from t2tbuild.spec.extension.registry import has_extensions
from t2tbuild.spec.latency import LatencyLimit
from t2tbuild.spec.model import ModelSpec
from t2tbuild.weights.metadata import ExportInfo
from t2tbuild.weights.preprocessing import default_preprocessing
from t2tbuild.weights.whole_model import save_onnx

LATENCY_SECONDS = 1.0
"""A candidate and the base are timed in turn for this long."""
MIN_ROUNDS = 5
MIN_FRESH = 3
"""With fewer fresh measurements, the error of the latency model is not known, and every candidate is measured."""
MIN_MARGIN = 0.3
"""A candidate is far over the limit where its prediction is above it by more than this fraction, or by more than twice
the largest error so far."""
THREADS = "latency threads"
"""The beginning of the keys of the numbers of threads in the metadata of a store."""


class LatencyMeter:
    """Measures the models of one search on one device. `limit` says how; without one, in torch.

    With `shared`, readings of other searches on this machine are used. Their keys are then in `reused`.
    """

    def __init__(
        self,
        limit: LatencyLimit | None,
        base: ModelSpec,
        device: torch.device,
        store: LatencyStore,
        *,
        shared: bool = True,
    ) -> None:
        self.max = None if limit is None else limit.max
        self.limit, self.base = limit or LatencyLimit(max=1.0), base
        self.device = torch.device("cpu") if self.limit.runtime == "onnxruntime" else device
        self.threads = self._choose_threads(store)
        self.readings = Readings(store, self._method_on_device())
        self.cache = LatencyCache(self._method_and_versions()) if shared and self.limit.command is None else None
        self.reused: set[str] = set()

    def __str__(self) -> str:
        return self.limit.model_copy(update={"threads": self.threads}).method

    def measure(self, model: ModelSpec, check: Callable[[], None] = lambda: None) -> float:
        """Return the seconds of a forward pass, measured now unless this shape was measured before.

        `check` is called in between and may raise. Raises InputError where it cannot be measured.
        """
        key = key_of(model)
        if (known := self.readings.get(key)) is not None:
            return known.seconds
        work = latency_features(model, self.limit.batch)
        fitted = self.fit()
        predicted = None if fitted is None or work is None else fitted.predict(work)
        reading = replace(self._find_or_time(key, model, check), work=work, predicted=predicted)
        return self.readings.keep(key, reading).seconds

    def _find_or_time(self, key: str, model: ModelSpec, check: Callable[[], None]) -> LatencyMeasurement:
        """Return the reading of another search, else a new one, which other searches then find."""
        cache = None if has_extensions(model) else self.cache  # the code of an extension changes behind its name
        if cache is not None and (known := cache.get(key)) is not None:
            self.reused.add(key)
            return known
        reading = self._time(key, model, check)
        return reading if cache is None else cache.keep(key, reading)

    def _time(self, key: str, model: ModelSpec, check: Callable[[], None]) -> LatencyMeasurement:
        if self.limit.command is not None:
            return LatencyMeasurement(self._run_command(self.limit.command, model, check))
        if key != key_of(self.base):
            return self._measure_with_base(model, self.measure(self.base, check))
        with torch_threads(self.threads):
            times = time_rounds({"base": self._base_step}, self.device, seconds=LATENCY_SECONDS, rounds=MIN_ROUNDS)
        return LatencyMeasurement(statistics.median(times["base"]), rounds=len(times["base"]))

    def predict_far_over(self, model: ModelSpec) -> float | None:
        """Return the predicted latency of a model that need not be measured, as it is far over the limit; else None.

        The margin is at least twice the largest error that the latency model made before a measurement.
        """
        if self.max is None or self.readings.get(key_of(model)) is not None:
            return None
        readings = self.readings.all()
        error, work = error_of(readings), latency_features(model, self.limit.batch)
        if error is None or work is None or error.count < MIN_FRESH:
            return None
        fitted = _fit(readings)
        if fitted is None:
            return None
        predicted = fitted.predict(work)
        return predicted if predicted > self.max * (1 + max(MIN_MARGIN, 2 * error.worst)) else None

    def fit(self) -> LatencyModel | None:
        """Return the latency model of what was measured so far, None where that is too little."""
        return _fit(self.readings.all())

    def _measure_with_base(self, model: ModelSpec, base: float) -> LatencyMeasurement:
        """Return a reading whose seconds are the base's, times the median ratio of the two in the same rounds."""
        with torch_threads(self.threads):
            steps = {"base": self._base_step, "model": self._make_step(model)}
            times = time_rounds(steps, self.device, seconds=LATENCY_SECONDS, rounds=MIN_ROUNDS)
        ratios = [mine / theirs for mine, theirs in zip(times["model"], times["base"], strict=True)]
        seconds, reference = base * statistics.median(ratios), statistics.median(times["base"])
        return LatencyMeasurement(seconds, reference=reference, rounds=len(ratios))

    @cached_property
    def _base_step(self) -> Step:
        return self._make_step(self.base)

    def _make_step(self, model: ModelSpec) -> Step:
        images = random_images(self.limit.batch, model.in_chans, *model.image)
        if self.limit.runtime == "torch":
            return torch_step(build_model(model), images, self.device)
        with TemporaryDirectory() as folder:
            return onnxruntime_step(_save_untrained(model, Path(folder)), images, self.threads or 1)

    def _run_command(self, command: str, model: ModelSpec, check: Callable[[], None]) -> float:
        with TemporaryDirectory() as folder:
            return run_command(command, _save_untrained(model, Path(folder)), timeout=self.limit.timeout, check=check)

    def _choose_threads(self, store: LatencyStore) -> int | None:
        """Return the number of threads: that of the limit, or that of the first process of the search on this machine.

        Workers have fewer threads than the process that starts them, and must measure as it does.
        """
        if self.limit.command is not None or self.device.type != "cpu":
            return None
        if self.limit.threads is not None:
            return self.limit.threads
        threads: int = store.keep_meta(f"{THREADS} {device_name(self.device)}", torch.get_num_threads())
        return threads

    def _method_on_device(self) -> str:
        """Return the key of the method and the device. A command is the same device wherever it is started."""
        if self.limit.command is not None:
            return f"command {hashlib.sha256(self.limit.command.encode()).hexdigest()[:16]}"
        return f"{self} on {device_name(self.device)}"[:200]

    def _method_and_versions(self) -> str:
        """Return the key of what other searches must share to use a reading."""
        packages = ["torch"] + (["onnxruntime", "onnx"] if self.limit.runtime == "onnxruntime" else [])
        versions = [f"{one} {version(one)}" for one in packages if importlib.util.find_spec(one) is not None]
        return ", ".join([self._method_on_device(), *versions, f"t2tbuild {__version__}"])


def _fit(readings: Sequence[LatencyMeasurement]) -> LatencyModel | None:
    """Return the latency model of readings, None where they are too few."""
    known = [(one.work, one.seconds) for one in readings if one.work is not None]
    if len(known) < MIN_MODELS:
        return None
    return fit_latency_model([work for work, _ in known], [seconds for _, seconds in known])


def _save_untrained(model: ModelSpec, folder: Path) -> Path:
    """Write a model with random weights to an ONNX file in a folder, and return it."""
    file = folder / f"{model.name}.onnx"
    save_onnx(build_model(model).eval(), file, ExportInfo(model.name, None, default_preprocessing(model)), None)
    return file


def make_meter(planned: Plan, device: torch.device, store: LatencyStore | None = None) -> LatencyMeter | None:
    """Return what measures the latencies of a search, None where it needs none."""
    if not needs("latency", planned.search):
        return None
    return LatencyMeter(planned.search.budget.latency, planned.base, device, store or MemoryStore())
