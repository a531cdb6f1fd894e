"""Time several steps in turn, so that they can be compared on a machine with other load."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

Name = TypeVar("Name")
Step = Callable[[], object]

WARMUP_RUNS = 2  # untimed runs of each step before the first round


@dataclass(frozen=True)
class Timing:
    """The seconds of one run of a step: the median and the 5th and 95th percentiles over all rounds."""

    median: float
    p5: float
    p95: float
    rounds: int


@dataclass(frozen=True)
class RoundProgress:
    """The progress of a measurement: rounds done, seconds since the start, and estimated seconds left."""

    done: int
    seconds: float
    left: float


def summarize_times(seconds: Sequence[float]) -> Timing:
    """Summarize the times of single runs, with interpolated percentiles.

    >>> summarize_times([float(second) for second in range(101)])
    Timing(median=50.0, p5=5.0, p95=95.0, rounds=101)
    """
    p5, median, p95 = (float(value) for value in np.percentile(seconds, (5, 50, 95)))
    return Timing(median, p5, p95, len(seconds))


def time_steps(
    steps: Mapping[Name, Step],
    device: torch.device,
    *,
    seconds: float,
    rounds: int,
    listener: Callable[[RoundProgress], None] = lambda _: None,
) -> dict[Name, Timing]:
    """Time steps in rounds, see `time_rounds`, and summarize the times of each."""
    times = time_rounds(steps, device, seconds=seconds, rounds=rounds, listener=listener)
    return {name: summarize_times(seconds_of_name) for name, seconds_of_name in times.items()}


def time_rounds(
    steps: Mapping[Name, Step],
    device: torch.device,
    *,
    seconds: float,
    rounds: int,
    listener: Callable[[RoundProgress], None] = lambda _: None,
) -> dict[Name, list[float]]:
    """Time each step once per round, until `seconds` have passed and at least `rounds` are done. Returns all times.

    A slow phase of the machine affects all steps, so their ratios are more reliable than their times. The order within
    a round is shuffled with a fixed seed, so that no step always follows the same other one. Each run starts on an idle
    device and ends when the device is idle again. On CUDA, the time is that between two events on the current stream:
    it includes kernel launches that the device waits for, and excludes the final synchronisation.
    """
    for step in steps.values():
        for _ in range(WARMUP_RUNS):
            step()
    names = list(steps)
    generator = torch.Generator().manual_seed(0)
    times: dict[Name, list[float]] = {name: [] for name in names}
    started = time.perf_counter()
    done, passed = 0, 0.0
    with _without_garbage_collection():
        while done < rounds or passed < seconds:
            for index in torch.randperm(len(names), generator=generator).tolist():
                times[names[index]].append(time_step(steps[names[index]], device))
            done, passed = done + 1, time.perf_counter() - started
            listener(RoundProgress(done, passed, max(0.0, seconds - passed, passed / done * (rounds - done))))
    return times


def time_step(step: Step, device: torch.device) -> float:
    """Return the seconds of one run, from an idle device until it is idle again."""
    match device.type:
        case "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            stream = torch.cuda.current_stream(device)
            torch.cuda.synchronize(device)
            start.record(stream)
            step()
            end.record(stream)
            end.synchronize()
            milliseconds: float = start.elapsed_time(end)
            return milliseconds / 1000
        case "cpu":
            started = time.perf_counter()
            step()
            return time.perf_counter() - started
        case other:
            raise NotImplementedError(f"timing on {other}")


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable Python's garbage collector, which would slow down single runs."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
