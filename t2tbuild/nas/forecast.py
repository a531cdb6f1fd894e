"""The forecast of a search: one step of the base is timed before the first training, and the whole is estimated."""

import itertools
import time
from dataclasses import dataclass

import torch

from t2tbuild.nas.plan import Plan
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.reference_runs import count_base_seeds
from t2tbuild.spec.search import Search
from t2tbuild.spec.units import format_seconds
from t2tbuild.training.data.image_cache import CacheCallbacks
from t2tbuild.training.data_notices import describe_unreadable

NAMES_IN_NOTICE = 3
TIMED_STEPS = 3
FORWARD_SHARE = 1 / 3
"""Time of the forward pass over that of a training step: the backward pass takes twice as long."""


@dataclass(frozen=True)
class Forecast:
    """The estimated time of a search.

    `step_seconds` and `images_per_second` are those of a training step of the base on one worker, `seconds` those of
    all trainings and evaluations with all workers, the base's included, whatever the timeout. `spent` are the seconds
    before them, in which images are cached. `rungs` are the seconds in which one candidate reaches each rung.
    """

    step_seconds: float
    images_per_second: float
    seconds: float
    spent: float
    rungs: tuple[float, ...]
    timeout: float | None

    def __str__(self) -> str:
        text = (
            f"forecast: {_round(self.seconds)} for all trainings, the base's included, after {self.spent:.0f}s of "
            f"preparation; a step of the base takes {self.step_seconds:.2g} s "
            f"({self.images_per_second:,.0f} images/s)"
        )
        if self.timeout is None or self.timeout >= self.spent + self.seconds:
            return text
        timeout, needed = format_seconds(self.timeout), _round(self.spent + 1.2 * self.seconds)
        needed = needed.removeprefix("about ")
        return f"{text}; the timeout ends it after {timeout}{self._too_short()}; for all of it: --timeout {needed}"

    def _too_short(self) -> str:
        """Return what a timeout that ends before the base is trained leaves undone, else nothing."""
        assert self.timeout is not None
        if self.timeout >= self.spent + self.rungs[-1]:
            return ""
        return f", but not before the base is trained once ({_round(self.rungs[-1])}), and no candidate is"


def forecast_rungs(search: Search, step_seconds: float, *, validation_images: int) -> list[float]:
    """Return the estimated seconds of training and evaluation from each rung to the next, of the base."""
    proxy = search.proxy
    evaluation = step_seconds * FORWARD_SHARE * validation_images / proxy.batch_size
    return [
        (end - start) * step_seconds + len(proxy.evaluation_steps(end)) * evaluation
        for start, end in itertools.pairwise([0, *proxy.rungs])
    ]


def forecast_search(search: Search, step_seconds: float, *, validation_images: int, workers: int) -> float:
    """Return the estimated seconds of a search in which every candidate is as fast as the base.

    With ASHA one candidate in `reduction_factor` goes on from rung to rung; with Hyperband fewer are pruned. Full-width
    confirmation runs count as those of the proxy's width, so that with them the search takes longer.
    """
    proxy, between = search.proxy, forecast_rungs(search, step_seconds, validation_images=validation_images)
    prunes = proxy.scheduler != "never" and Ranking(search, ()).uses_training
    skipped = range(len(proxy.rungs)) if proxy.scheduler == "hyperband" else range(1)
    candidate = 0.0
    for skip in skipped:
        reaching = [proxy.reduction_factor ** -max(0, rung - skip) if prunes else 1.0 for rung in range(len(between))]
        candidate += sum(share * seconds for share, seconds in zip(reaching, between, strict=True)) / len(skipped)
    full = count_base_seeds(search)
    if search.confirm is not None and Ranking(search, ()).uses_training:
        full += (search.confirm.best + search.confirm.random) * search.confirm.seeds
    return (search.trials * candidate + full * sum(between)) / workers


def measure_forecast(evaluator: ProxyEvaluator, planned: Plan, workers: int, started: float) -> Forecast:
    """Time a training step of the base, and estimate the search. No training of the search depends on it.

    `started` is the time.perf_counter() of the start of the search.
    """
    search, threads = planned.search, torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))  # as each of the workers has
    try:
        step_seconds = _time_step(evaluator, planned)
    finally:
        torch.set_num_threads(threads)
    images = evaluator.data.size("validation")
    seconds = forecast_search(search, step_seconds, validation_images=images, workers=workers)
    rungs = itertools.accumulate(forecast_rungs(search, step_seconds, validation_images=images))
    batch = min(search.proxy.batch_size, evaluator.data.size("train"))
    spent = time.perf_counter() - started
    return Forecast(step_seconds, batch / step_seconds, seconds, spent, tuple(rungs), search.timeout)


def _time_step(evaluator: ProxyEvaluator, planned: Plan) -> float:
    """Return the seconds of a training step of the base: the fastest of a few, after one that warms up."""
    trainer = evaluator.trainer_of(planned.base, evaluator.search.proxy, seed=planned.search.seed)
    ends = []
    for loss in trainer.steps(TIMED_STEPS + 1):
        loss.item()  # waits for the device
        ends.append(time.perf_counter())
    return min(after - before for before, after in itertools.pairwise(ends))


def _round(seconds: float) -> str:
    """Return a time in words of one or two digits, for a forecast."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f}s"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f}m"
    return f"about {seconds / 3600:.1f}h"


def announce(
    evaluator: ProxyEvaluator, planned: Plan, workers: int, callbacks: CacheCallbacks, *, started: float, is_new: bool
) -> None:
    """Send notices of the unreadable images, and of the forecast of a new search that started at a perf_counter()."""
    corrupt = evaluator.data.corrupt_images
    if corrupt:
        more = "; ..." if len(corrupt) > NAMES_IN_NOTICE else ""
        names = "; ".join(corrupt[:NAMES_IN_NOTICE]) + more
        callbacks.notice(f"{describe_unreadable(len(corrupt))}: {names}")
    if is_new:
        callbacks.notice(str(measure_forecast(evaluator, planned, workers, started)))
