"""The table and the plot of a benchmark with made-up figures."""

import io
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console

from t2tbuild.bench.benchmark import BenchConfig, BenchModel, BenchResult, Measurement, to_measurement
from t2tbuild.bench.timing import Timing
from t2tbuild.report import latency
from t2tbuild.report.bench_table import bench_table
from t2tbuild.report.latency import latency_front, plot_latency
from t2tbuild.spec.units import milliseconds

SETUP = BenchConfig(torch.device("cpu"), 4, torch.float32, compiled=False, training=False)


def row(name: str, macs: int, seconds: float) -> Measurement:
    subject = BenchModel(name, torch.nn.Identity(), (3, 8, 8), 10, params=21_500_000, macs=macs)
    return to_measurement(subject, SETUP, Timing(seconds, seconds / 2, seconds * 2, 12), memory=3 * 10**9, peak=1e12)


BENCH = BenchResult(SETUP, 1e12, (row("a", 10**9, 0.04), row("b", 5 * 10**9, 0.16), row("slow", 10**9, 0.2)))


def test_figures_by_hand() -> None:
    """Four images of 1 GMAC are 8 GFLOP; in 40 ms that is 0.2 TFLOP/s of 1 TFLOP/s."""
    first, second, _ = BENCH.measurements
    assert first.images_per_second == pytest.approx(100)
    assert first.share_of_peak == pytest.approx(0.2)
    assert BENCH.ratio(first) == 1
    assert BENCH.ratio(second) == pytest.approx(0.25)
    training = BenchConfig(torch.device("cpu"), 4, torch.float32, compiled=False, training=True)
    subject = BenchModel("a", torch.nn.Identity(), (3, 8, 8), 10, params=1, macs=10**9)
    assert to_measurement(subject, training, first.speed, 1, 1e12).share_of_peak == pytest.approx(0.6)


def test_the_front_has_no_model_with_fewer_macs_and_more_latency() -> None:
    rows = [row("a", 10, 1.0), row("b", 20, 3.0), row("c", 20, 2.0), row("d", 5, 2.5), row("e", 30, 2.0)]
    assert [one.name for one in latency_front(rows)] == ["a", "e"]


def test_the_table_has_a_row_a_model_in_the_order_named() -> None:
    screen = io.StringIO()
    Console(file=screen, width=110).print(bench_table(BENCH, title="inference, batch 4"))
    rows = [line.split("│")[1:-1] for line in screen.getvalue().splitlines() if line.count("│") > 5]
    assert [cell.strip() for cell in rows[1]] == [
        *("b", "21.5M", "5.00G", "160", "80.0 to 320", "25.0", "0.25", "3.00GB", "25.0%")
    ]
    assert [cells[0].strip() for cells in rows] == ["a", "b", "slow"]
    assert "median of 12 interleaved rounds" in screen.getvalue()
    assert "1.00TFLOP/s" in screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0000123, "0.0123"), (0.00999, "9.99"), (0.0123, "12.3"), (0.16, "160"), (12.0, "12,000")]
)
def test_milliseconds_have_three_digits(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_plot_is_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"latency{suffix}"
    plot_latency(BENCH, path, title="inference")
    assert path.stat().st_size > 1000


def test_the_plot_shows_names_error_bars_and_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    make = latency.new_figure
    monkeypatch.setattr(latency, "new_figure", lambda *size: drawn.append(make(*size)) or drawn[-1])
    close = BenchResult(SETUP, 1e12, (*BENCH.measurements, *(row(f"near {i}", 10**9 + i, 0.041) for i in range(3))))
    plot_latency(close, tmp_path / "latency.png", title="inference")
    axes = drawn[0].axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    names = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    assert set(names) == {"a", "b", "slow", "near 0", "near 1", "near 2"}
    assert all(
        box.count_overlaps([other for other in names.values() if other is not box]) == 0 for box in names.values()
    )
    (front,) = [line for line in axes.lines if "Pareto" in str(line.get_label())]
    assert [list(values) for values in front.get_data()] == [
        pytest.approx([1.0, 1.0, 5.0]),
        pytest.approx([10.0, 10.25, 40.0]),
    ]


def test_one_model_alone_is_drawn_on_plain_axes(tmp_path: Path) -> None:
    plot_latency(BenchResult(SETUP, 1e12, BENCH.measurements[:1]), tmp_path / "one.png", title="")
    assert (tmp_path / "one.png").exists()
