"""How long steps take, beside each other on a machine that others use too."""

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

WARM_UP = 2  # runs of each step before the first round, which nobody times


@dataclass(frozen=True)
class Speed:
    """Seconds of one run of a step: the median of all rounds, and what 5% and 95% of them stay below."""

    median: float
    p5: float
    p95: float
    rounds: int


@dataclass(frozen=True)
class Rounds:
    """How far a measurement is: rounds done, seconds since the first began, and seconds that are likely left."""

    done: int
    seconds: float
    left: float


def speed_of(seconds: Sequence[float]) -> Speed:
    """What the times of single runs come to; between two of them the percentiles are interpolated.

    >>> speed_of([float(second) for second in range(101)])
    Speed(median=50.0, p5=5.0, p95=95.0, rounds=101)
    """
    p5, median, p95 = (float(value) for value in np.percentile(seconds, (5, 50, 95)))
    return Speed(median, p5, p95, len(seconds))


def measure_speed(
    steps: Mapping[Name, Step],
    device: torch.device,
    *,
    seconds: float,
    rounds: int,
    listener: Callable[[Rounds], None] = lambda _: None,
) -> dict[Name, Speed]:
    """Time each step once a round, until `seconds` have passed and at least `rounds` are done.

    A slow moment of the machine falls on all steps alike, so their ratios hold where their times do not. The order
    within a round is shuffled, by a fixed seed, so that none always follows the same other. Each run starts on an idle
    device and ends when the device is done: on CUDA between two events on the current stream, so that the launching of
    kernels counts where the device has to wait for it, and the wait for the last one to be told does not.
    """
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    names = list(steps)
    generator = torch.Generator().manual_seed(0)
    taken: dict[Name, list[float]] = {name: [] for name in names}
    started = time.perf_counter()
    done, passed = 0, 0.0
    with _without_garbage_collection():
        while done < rounds or passed < seconds:
            for index in torch.randperm(len(names), generator=generator).tolist():
                taken[names[index]].append(seconds_of(steps[names[index]], device))
            done, passed = done + 1, time.perf_counter() - started
            listener(Rounds(done, passed, max(0.0, seconds - passed, passed / done * (rounds - done))))
    return {name: speed_of(times) for name, times in taken.items()}


def seconds_of(step: Step, device: torch.device) -> float:
    """Seconds of one run, from an idle device until it is idle again."""
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
    """Python's collector would strike some runs and not others."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
