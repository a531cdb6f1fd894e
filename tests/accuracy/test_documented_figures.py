"""The figures of docs/accuracy.md: benchmarks/accuracy.py measures them again, within a written tolerance."""

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from t2tbuild.accuracy.fit import imagenet_models
from t2tbuild.accuracy.published import PublishedModel, published_models, reserved_sources

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
TAU, POINTS = 0.02, 0.03
"""Tolerances of tau and of the mean error in points of top-1. The fit is deterministic; another version of scikit-learn
may end its iterations elsewhere. The share of intervals that hold may differ by one model."""
LOW_COVERAGE = 0.8


def documented(header: str) -> list[list[str]]:
    """Return the cells of the table of docs/accuracy.md with this first line."""
    table = PAGE.split(f"{header}\n", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_accuracy", ROOT / "benchmarks" / "accuracy.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models() -> list[PublishedModel]:
    reserved = reserved_sources()
    return [one for one in imagenet_models() if one.source not in reserved]


def assert_same(documented: Sequence[Sequence[str]], measured: Sequence[Sequence[str]], labels: int) -> None:
    """Compare rows of labels, number of models, tau, mean error and coverage."""
    assert [row[: labels + 1] for row in documented] == [row[: labels + 1] for row in measured]
    for written, found in zip(documented, measured, strict=True):
        models, (tau, error, held) = int(written[labels]), written[labels + 1 :]
        assert (tau == "") == (found[labels + 1] == ""), written
        if tau:
            assert float(found[labels + 1]) == pytest.approx(float(tau), abs=TAU), written
        assert float(found[labels + 2]) == pytest.approx(float(error), abs=POINTS), written
        assert _share(found[labels + 3]) == pytest.approx(_share(held), abs=0.011 + 1 / models), written


def _share(text: str) -> float:
    return float(text.removesuffix("%")) / 100


@pytest.mark.nightly
def test_one_model_left_out(benchmark: ModuleType, models: list[PublishedModel]) -> None:
    """The promise: tau 0.8 or more, at most 1.2 points, 80 to 97% of the intervals hold; DeiT by 8 and by 38 rows."""
    groups = benchmark.groups_of(benchmark.leave_one_out(models, models))
    measured = {label: [label, *benchmark.figures(found)] for label, found in groups}
    assert_same(
        documented("| one model left out, of | models | tau | mean error | intervals hold |"), [*measured.values()], 1
    )
    for label, rows in (("the T2T paper and DeiT", 37), ("the T2T paper and DeiT, all rows", 67)):
        count, tau, error, held = measured[label][1:]
        assert int(count) == rows
        assert float(tau) >= 0.8
        assert float(error) <= 1.2
        assert 0.8 <= _share(held) <= 0.97


@pytest.mark.nightly
def test_a_source_left_out(benchmark: ModuleType, models: list[PublishedModel]) -> None:
    """The promise, over all sources: at most 1.2 points and 80 to 97% of the intervals; the page names exceptions."""
    measured = benchmark.source_rows(models)
    assert_same(documented("| source | models | tau | mean error | intervals hold |"), measured, 1)
    *rows, (_, _, tau, error, held) = measured
    assert float(tau) >= 0.8
    assert float(error) <= 1.2
    assert 0.8 <= _share(held) <= 0.97
    assert all(float(row[2]) > 0 for row in rows if row[2])
    text = PAGE.split("**The pooled", 1)[1].split("\n\n", 1)[0]
    low, large = text.split("In three sources", 1)
    assert set(re.findall(r"(\w+)\s\(\d+%", low)) == {row[0] for row in rows if _share(row[4]) < LOW_COVERAGE}
    assert set(re.findall(r"(\w+)\s\(\d\.\d\d", large)) == {row[0] for row in rows if float(row[3]) > 1.2}


@pytest.mark.nightly
def test_the_reserved_sources(benchmark: ModuleType, models: list[PublishedModel]) -> None:
    found = {
        name: benchmark.leave_source_out(models, [one for one in imagenet_models() if one.source == name])
        for name in sorted(reserved_sources())
    }
    measured = [benchmark.figures(one) for one in found.values()]
    measured.append(benchmark.figures([one for some in found.values() for one in some]))
    rows = documented("| source | models | Kendall's tau | mean error, points | coverage of 90% intervals |")
    assert_same([row[1:] for row in rows], measured, 0)


@pytest.mark.nightly
def test_what_the_uncertain_rows_change(benchmark: ModuleType, models: list[PublishedModel]) -> None:
    measured = benchmark.uncertain_rows(models)
    assert_same(documented("| models of | fitted to | models | tau | mean error | intervals hold |"), measured, 2)
    assert benchmark.wrong_pairs([one for one in models if not one.uncertain]) == []


def test_the_counts_of_uncertain_rows() -> None:
    every, fitted = published_models(), imagenet_models()
    for name, whole, used, _ in documented("| uncertain | all rows | rows of the fit | does the predictor use it? |"):
        field = name.strip("`")
        assert int(whole) == sum(field in one.uncertain for one in every), field
        assert int(used) == sum(field in one.uncertain for one in fitted), field
    memory, charts = (sum(word in one.note for one in every) for word in ("from memory", "chart"))
    assert f'{memory} notes say "from memory", {charts} mention a chart' in PAGE
    counts = [sum(bool(one.uncertain) for one in some) for some in (every, fitted)]
    assert f"Of the {len(every)} rows {counts[0]} have it, of the {len(fitted)} that" in PAGE
    assert f"the predictor is fitted to {counts[1]}:" in PAGE
