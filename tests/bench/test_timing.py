"""Steps in turn, and the statistics of made-up times. Nothing here depends on how fast the machine is."""

from collections import Counter

import pytest
import torch

from t2tbuild.bench import timing
from t2tbuild.bench.peak_flops import matmul_peak, matmul_steps
from t2tbuild.bench.timing import Rounds, Speed, measure_speed, seconds_of, speed_of

CPU = torch.device("cpu")


def test_the_percentiles_are_interpolated() -> None:
    assert speed_of([4.0, 1.0, 3.0, 2.0, 5.0]) == Speed(
        median=3.0, p5=pytest.approx(1.2), p95=pytest.approx(4.8), rounds=5
    )
    assert speed_of([7.0]) == Speed(7.0, 7.0, 7.0, 1)


def test_one_slow_run_does_not_move_the_median() -> None:
    assert speed_of([1.0, 1.0, 100.0]).median == 1.0


def test_every_round_runs_each_step_once_in_an_order_of_its_own() -> None:
    ran: list[str] = []
    steps = {name: lambda name=name: ran.append(name) for name in "abcd"}
    speeds = measure_speed(steps, CPU, seconds=0, rounds=8)
    warm, timed = ran[: 4 * timing.WARM_UP], ran[4 * timing.WARM_UP :]
    assert Counter(warm) == dict.fromkeys("abcd", timing.WARM_UP)
    orders = ["".join(timed[start : start + 4]) for start in range(0, len(timed), 4)]
    assert all(sorted(order) == list("abcd") for order in orders)
    assert len(orders) == 8 and len(set(orders)) > 4
    assert {name: speed.rounds for name, speed in speeds.items()} == dict.fromkeys("abcd", 8)
    ran.clear()
    measure_speed(steps, CPU, seconds=0, rounds=8)
    assert ran == warm + timed  # the seed is fixed


def test_rounds_go_on_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    heard: list[Rounds] = []
    speeds = measure_speed({"only": lambda: None}, CPU, seconds=10, rounds=2, listener=heard.append)
    assert speeds["only"] == Speed(1.0, 1.0, 1.0, rounds=4)  # three looks at the clock a round: at 3, 6, 9 and 12
    assert heard[0] == Rounds(done=1, seconds=3.0, left=7.0)
    assert heard[-1] == Rounds(done=4, seconds=12.0, left=0.0)


def test_the_time_left_is_that_of_the_rounds_where_they_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    heard: list[Rounds] = []
    measure_speed({"only": lambda: None}, CPU, seconds=1, rounds=5, listener=heard.append)
    assert [one.left for one in heard] == [12.0, 9.0, 6.0, 3.0, 0.0]


def test_nothing_is_timed_on_other_devices() -> None:
    with pytest.raises(NotImplementedError, match="timing on meta"):
        seconds_of(lambda: None, torch.device("meta"))


def test_the_peak_is_of_the_best_size() -> None:
    slow, fast = Speed(2.0, 2.0, 2.0, 3), Speed(1.0, 0.5, 9.0, 3)
    assert matmul_peak({10: fast, 100: slow}) == 2 * 100**3 / 2


def test_sizes_that_take_long_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2tbuild.bench.peak_flops.SIZES", {"cpu": (8, 16, 32)})
    monkeypatch.setattr("t2tbuild.bench.peak_flops.seconds_of", lambda _step, _device: 0.01)
    assert list(matmul_steps(CPU, torch.bfloat16)) == [8, 16, 32]
    monkeypatch.setattr("t2tbuild.bench.peak_flops.seconds_of", lambda _step, _device: 5.0)
    assert list(matmul_steps(CPU, torch.bfloat16)) == [8]
