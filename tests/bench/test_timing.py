"""The order of steps, and statistics of given times. Nothing here depends on the speed of the machine."""

from collections import Counter

import pytest
import torch

from t2tbuild.bench import timing
from t2tbuild.bench.peak_flops import matmul_steps, peak_flops
from t2tbuild.bench.timing import RoundProgress, Timing, summarize_times, time_step, time_steps

CPU = torch.device("cpu")


def test_the_percentiles_are_interpolated() -> None:
    assert summarize_times([4.0, 1.0, 3.0, 2.0, 5.0]) == Timing(
        median=3.0, p5=pytest.approx(1.2), p95=pytest.approx(4.8), rounds=5
    )
    assert summarize_times([7.0]) == Timing(7.0, 7.0, 7.0, 1)


def test_one_slow_run_does_not_move_the_median() -> None:
    assert summarize_times([1.0, 1.0, 100.0]).median == 1.0


def test_every_round_runs_each_step_once_in_random_order() -> None:
    ran: list[str] = []
    steps = {name: lambda name=name: ran.append(name) for name in "abcd"}
    speeds = time_steps(steps, CPU, seconds=0, rounds=8)
    warm, timed = ran[: 4 * timing.WARMUP_RUNS], ran[4 * timing.WARMUP_RUNS :]
    assert Counter(warm) == dict.fromkeys("abcd", timing.WARMUP_RUNS)
    orders = ["".join(timed[start : start + 4]) for start in range(0, len(timed), 4)]
    assert all(sorted(order) == list("abcd") for order in orders)
    assert len(orders) == 8 and len(set(orders)) > 4
    assert {name: speed.rounds for name, speed in speeds.items()} == dict.fromkeys("abcd", 8)
    ran.clear()
    time_steps(steps, CPU, seconds=0, rounds=8)
    assert ran == warm + timed  # the seed is fixed


def test_rounds_continue_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    reports: list[RoundProgress] = []
    speeds = time_steps({"only": lambda: None}, CPU, seconds=10, rounds=2, listener=reports.append)
    assert speeds["only"] == Timing(
        1.0, 1.0, 1.0, rounds=4
    )  # the clock is read three times per round: at 3, 6, 9 and 12
    assert reports[0] == RoundProgress(done=1, seconds=3.0, left=7.0)
    assert reports[-1] == RoundProgress(done=4, seconds=12.0, left=0.0)


def test_the_time_left_follows_the_rounds_if_they_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    reports: list[RoundProgress] = []
    time_steps({"only": lambda: None}, CPU, seconds=1, rounds=5, listener=reports.append)
    assert [one.left for one in reports] == [12.0, 9.0, 6.0, 3.0, 0.0]


def test_other_devices_are_not_supported() -> None:
    with pytest.raises(NotImplementedError, match="timing on meta"):
        time_step(lambda: None, torch.device("meta"))


def test_the_peak_is_that_of_the_fastest_size() -> None:
    slow, fast = Timing(2.0, 2.0, 2.0, 3), Timing(1.0, 0.5, 9.0, 3)
    assert peak_flops({10: fast, 100: slow}) == 2 * 100**3 / 2


def test_sizes_that_take_too_long_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2tbuild.bench.peak_flops.SIZES", {"cpu": (8, 16, 32)})
    monkeypatch.setattr("t2tbuild.bench.peak_flops.time_step", lambda _step, _device: 0.01)
    assert list(matmul_steps(CPU, torch.bfloat16)) == [8, 16, 32]
    monkeypatch.setattr("t2tbuild.bench.peak_flops.time_step", lambda _step, _device: 5.0)
    assert list(matmul_steps(CPU, torch.bfloat16)) == [8]
