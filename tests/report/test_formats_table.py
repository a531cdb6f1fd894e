"""The picture of the formats of a model."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from t2tbuild.bench.formats import FormatMeasurement, FormatsResult
from t2tbuild.bench.timing import Timing
from t2tbuild.report import formats_table
from t2tbuild.report.formats_table import plot_formats


def test_memory_that_was_not_measured_has_no_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    make = formats_table.new_figure
    monkeypatch.setattr(formats_table, "new_figure", lambda *size: drawn.append(make(*size)) or drawn[-1])
    speed = Timing(median=0.02, p5=0.01, p95=0.03, rounds=7)
    torch = FormatMeasurement("torch", "torch", "float32", False, speed, 50.0, 16_000_000, None)
    onnx = FormatMeasurement("onnx", "onnxruntime", "float32", False, speed, 50.0, 16_000_000, 52_000_000)
    plot_formats(FormatsResult(1, 1, 0, (torch, onnx)), tmp_path / "formats.png", title="formats")
    memory = drawn[0].axes[2]
    assert [text.get_text() for text in memory.texts] == ["not measured", "52"]
    assert [bar.get_width() for bar in memory.patches] == [0, 52]
