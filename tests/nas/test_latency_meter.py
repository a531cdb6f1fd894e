"""The latency limit of a search: a shape is measured once, in rounds with the base, and noise decides nothing."""

import csv
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from t2tbuild import search
from t2tbuild.bench.latency_model import latency_features
from t2tbuild.bench.measure_command import ALLOW_VARIABLE
from t2tbuild.cli import app
from t2tbuild.errors import FieldError, InputError
from t2tbuild.nas import State
from t2tbuild.nas.conclude import measure_equals
from t2tbuild.nas.latency_check import require_candidate_within
from t2tbuild.nas.latency_meter import LatencyMeter
from t2tbuild.nas.latency_readings import LatencyMeasurement, MemoryStore
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import plan
from t2tbuild.spec import ModelSpec, SearchSpec
from t2tbuild.spec.latency import LatencyLimit
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.training.reports import Notice
from tests.command import run_t2tbuild
from tests.nas.conftest import tiny_search

Tiny = Callable[..., SearchSpec]
LIMIT = LatencyLimit(max=0.012, threads=1)
CPU = torch.device("cpu")


def deep(model: ModelSpec, depth: int) -> ModelSpec:
    return with_changes(model, {"name": f"deep{depth}", "backbone": model.backbone.model_dump() | {"depth": depth}}, "")


class Machine:
    """A machine on which a block takes a millisecond, and the rest of a model as much as eight.

    All is slower by a factor that changes from one measurement to the next. It takes the place of the built models and
    of the clock.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slowness = [1.0]
        self.built: list[int] = []
        monkeypatch.setattr(LatencyMeter, "_make_step", lambda _meter, model: self.build(model))
        monkeypatch.setattr("t2tbuild.nas.latency_meter.time_rounds", self.time)

    def build(self, model: ModelSpec) -> Callable[[], float]:
        self.built.append(model.backbone.depth)
        return lambda: 0.001 * (model.backbone.depth + 8)

    def time(self, steps: Mapping[str, Callable[[], float]], _device: object, **_: Any) -> dict[str, list[float]]:
        slow = self.slowness.pop() if len(self.slowness) > 1 else self.slowness[0]
        phases = [slow, 2 * slow, slow]  # the second round is slow for all
        return {name: [step() * phase for phase in phases] for name, step in steps.items()}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the latencies of a test from those of the user and of other tests."""
    monkeypatch.setenv("T2TBUILD_CACHE", str(tmp_path / "caches"))
    return tmp_path / "caches" / "latency"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_slow_phase_of_the_machine_does_not_change_a_latency(small: ModelSpec, machine: Machine) -> None:
    meter = LatencyMeter(LIMIT, small, CPU, MemoryStore())
    assert meter.measure(small) == pytest.approx(0.010)
    machine.slowness = [3.0]
    assert meter.measure(deep(small, 6)) == pytest.approx(0.014)


def test_a_shape_is_measured_once_by_all_processes_of_a_search(small: ModelSpec, machine: Machine) -> None:
    store = MemoryStore()
    first = LatencyMeter(LIMIT, small, CPU, store).measure(deep(small, 6))
    machine.slowness = [5.0]
    second = LatencyMeter(LIMIT, small, CPU, store)
    built = len(machine.built)
    assert second.measure(with_changes(deep(small, 6), {"name": "renamed"}, "")) == first
    assert len(machine.built) == built
    other_threads = LatencyMeter(LatencyLimit(max=0.012, threads=2), small, CPU, store)
    assert other_threads.measure(deep(small, 6)) != first


def test_another_search_uses_the_readings_of_the_first(
    small: ModelSpec, machine: Machine, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a shape is within the limit in one search and over it in the next, on a machine that is now slower."""
    first = LatencyMeter(LIMIT, small, CPU, MemoryStore())
    latencies = first.measure(small), first.measure(deep(small, 6))
    machine.slowness = [1.5]
    second = LatencyMeter(LIMIT, small, CPU, MemoryStore())
    assert (second.measure(small), second.measure(deep(small, 6))) == latencies
    assert machine.built == [2, 6]
    assert second.reused == {key_of(small), key_of(deep(small, 6))}
    assert not [file for file in cache.rglob("*") if file.name.startswith(".")]
    assert LatencyMeter(LIMIT, small, CPU, MemoryStore(), shared=False).measure(small) == pytest.approx(0.015)
    monkeypatch.setattr("t2tbuild.nas.latency_meter.version", lambda _package: "99")
    assert LatencyMeter(LIMIT, small, CPU, MemoryStore()).measure(small) == pytest.approx(0.015)


@pytest.mark.parametrize("content", ["", "[]", '{"seconds": "fast"}', '{"seconds": -1}', '{"second": 1}'])
def test_a_reading_that_is_damaged_is_measured_again(
    small: ModelSpec, machine: Machine, cache: Path, content: str
) -> None:
    LatencyMeter(LIMIT, small, CPU, MemoryStore()).measure(small)
    (file,) = cache.rglob("*.json")
    file.write_text(content)
    assert LatencyMeter(LIMIT, small, CPU, MemoryStore()).measure(small) == pytest.approx(0.010)
    assert machine.built == [2, 2]


def test_workers_measure_with_the_threads_of_the_process_that_starts_them(
    small: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert LatencyMeter(LatencyLimit(max=1), small, CPU, store).threads == 4
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert LatencyMeter(LatencyLimit(max=1), small, CPU, store).threads == 4


@pytest.mark.usefixtures("machine")
def test_only_what_is_predicted_far_over_the_limit_is_not_measured(small: ModelSpec) -> None:
    meter = LatencyMeter(LIMIT, small, CPU, MemoryStore())
    far = deep(small, 60)
    for depth in range(2, 10):
        assert meter.predict_far_over(far) is None  # nothing is known of the model's error yet
        meter.measure(deep(small, depth))
    assert meter.predict_far_over(far) is None
    meter.measure(deep(small, 10))
    assert meter.predict_far_over(far) == pytest.approx(0.068, rel=0.05)
    assert meter.predict_far_over(deep(small, 5)) is None  # measured
    near = with_changes(deep(small, 4), {"name": "near", "num_classes": 11}, "")
    assert meter.predict_far_over(near) is None
    meter.measure(far)
    assert meter.predict_far_over(far) is None  # measured


@pytest.mark.usefixtures("machine")
def test_a_model_whose_errors_are_large_rules_nothing_out(small: ModelSpec) -> None:
    store = MemoryStore()
    meter = LatencyMeter(LIMIT, small, CPU, store)
    for depth in range(2, 12):
        meter.measure(deep(small, depth))
    assert meter.predict_far_over(deep(small, 12)) is not None
    wrong = LatencyMeasurement(0.010, latency_features(small), predicted=0.04)
    meter.readings.keep("wrong", wrong)
    assert meter.predict_far_over(deep(small, 12)) is None


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trainer")
def test_a_candidate_over_the_limit_is_not_trained_and_the_figures_are_written(
    tmp_path: Path, tiny: Tiny, machine: Machine
) -> None:
    """The base is near the limit: measured again for each seed, it would be over it with some and not with others."""
    machine.slowness = [1.0, 0.9, 1.3, 1.1]
    spec = tiny("search.budget.latency={max: 11.2ms, threads: 1}", "search.trials=2", "search.confirm=null")
    events: list[object] = []
    result = search(spec, tmp_path / "run", on_progress=events.append)
    assert len({one.latency for one in result.reference_runs}) == 1
    assert len({one.state for one in result.reference_runs}) == 1
    slow = [record for record in result.records if record.state is State.INFEASIBLE]
    assert slow
    for record in slow:
        over = record.latency if record.latency is not None else record.predicted_latency
        assert over is not None and over > 0.0112 and not record.rungs
    assert all(0 < (record.latency or 0) <= 0.0112 for record in result.records if record.rungs)
    with (tmp_path / "run" / "candidates.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[0]["latency_ms"]) == round(1000 * (result.base.latency or 0), 4) == 11.0
    assert all(row["latency_ms"] or row["predicted_latency_ms"] for row in rows)
    assert any(isinstance(one, Notice) and "latency of the base: " in str(one) for one in events)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["latency"]["measured"] == len({one.key for one in (result.base, *result.records) if one.latency})


def test_where_nothing_is_within_the_limit_nothing_is_written(tmp_path: Path, tiny: Tiny, machine: Machine) -> None:
    message = (
        r"none of the 9 measured is within 3.00 ms, of which 3 were predicted the fastest: the fastest was 9.00 ms"
    )
    with pytest.raises(FieldError, match=message) as error:
        search(tiny("search.budget.latency={max: 3ms, threads: 1}"), tmp_path / "run")
    assert error.value.path == ("search", "budget", "latency")
    assert error.value.exit_code == 2
    assert "the base has 10.0 ms (torch, 1 thread, batch 1)" in str(error.value)
    assert "write at least 9.45ms" in str(error.value)
    assert not (tmp_path / "run").exists()
    assert 1 in machine.built


def test_nothing_is_refused_where_another_candidate_may_be_within_the_limit(
    tiny: Tiny, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here what is predicted takes a tenth longer than predicted: others may take less by as much."""

    def build(_meter: LatencyMeter, model: ModelSpec) -> Callable[[], float]:
        step = machine.build(model)
        slower = 1.1 if len(machine.built) > 6 else 1.0
        return lambda: slower * step()

    monkeypatch.setattr(LatencyMeter, "_make_step", build)
    monkeypatch.setattr("t2tbuild.nas.latency_check.SAMPLED", 60)
    planned, notices = plan(tiny("search.budget.latency={max: 8.9ms, threads: 1}")), list[str]()
    limit = planned.search.budget.latency
    require_candidate_within(LatencyMeter(limit, planned.base, CPU, MemoryStore()), planned, notices.append)
    assert len(machine.built) == 9
    assert notices[0] == "latency of the base: 10.0 ms, the limit is 8.90 ms (torch, 1 thread, batch 1)"
    assert "none of the 9 measured is within 8.90 ms, of which 3 were predicted the fastest" in notices[1]
    assert notices[1].endswith("the others may be, so the search measures its candidates")


def test_a_command_in_a_spec_needs_consent_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ALLOW_VARIABLE, raising=False)
    limit = {"max": "10ms", "command": f"touch {tmp_path}/ran"}
    tiny_search(tmp_path)
    text = (tmp_path / "tiny.yaml").read_text().replace("{macs: 3M}", json.dumps({"macs": "3M", "latency": limit}))
    (tmp_path / "tiny.yaml").write_text(text)
    done = CliRunner().invoke(app, ["search", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run")])
    assert isinstance(done.exception, InputError)
    assert "needs your consent: touch" in str(done.exception)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trainer")
def test_a_command_measures_each_shape_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(model: ModelSpec, folder: Path) -> Path:  # the export is that of the next test
        (folder / f"{model.name}.onnx").write_text("a model")
        return folder / f"{model.name}.onnx"

    monkeypatch.setattr("t2tbuild.nas.latency_meter._save_untrained", save)
    script = tmp_path / "measure.sh"
    script.write_text(f'#!/bin/sh\ntest -s "$1" && echo "$1" >> {tmp_path}/calls && echo 3\n')
    script.chmod(0o755)
    spec = tiny_search(tmp_path, f"search.budget.latency={{max: 4ms, command: {script}}}", "search.trials=1")
    with pytest.raises(InputError, match="needs your consent"):
        search(spec, tmp_path / "refused")
    result = search(spec, tmp_path / "run", allow_command=True)
    measured = {one.key for one in (*result.reference_runs, *result.records)}
    assert len((tmp_path / "calls").read_text().splitlines()) == len(measured)
    assert {one.latency for one in result.reference_runs} == {0.003}


@pytest.mark.slow
@pytest.mark.nightly
def test_two_workers_measure_each_shape_once_and_train_none_over_the_limit(tmp_path: Path) -> None:
    """Real exports, processes and trainings; the command finds some shapes slow by the size of their files."""
    tiny_search(tmp_path)
    script = tmp_path / "measure.sh"
    script.write_text(f"""#!/bin/sh
size=$(stat -c %s "$1")
echo $size >> {tmp_path}/calls
echo $((size % 3 * 4 + 2))
""")
    script.chmod(0o755)
    options = ["--budget-latency", "7ms", "--latency-command", str(script), "--workers", "2", "--out", "run"]
    done = run_t2tbuild("search", "tiny.yaml", *options, "search.trials=6", "search.confirm=null", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    report = json.loads((run / "report.json").read_text())
    calls = (tmp_path / "calls").read_text().split()
    assert len(calls) == report["latency"]["measured"]  # the study has one for each shape
    with (run / "candidates.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        slow = float(row["latency_ms"] or row["predicted_latency_ms"]) > 7
        assert slow == (row["state"] == "infeasible") == (not row["train_seconds"] or float(row["train_seconds"]) == 0)
    assert "latency, ms" in (run / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_real_models_are_timed_in_their_runtime(
    small: ModelSpec, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2tbuild.nas.latency_meter.LATENCY_SECONDS", 0.05)
    limit = LatencyLimit.model_validate({"max": 1.0, "runtime": runtime, "threads": 1, "batch": 2})
    meter = LatencyMeter(limit, small, CPU, MemoryStore())
    base, wide = meter.measure(small), meter.measure(deep(small, 12))
    assert 0 < base < wide
    assert torch.get_num_threads() != 0


@pytest.mark.usefixtures("machine")
def test_the_error_of_the_model_is_that_of_predictions_made_before(small: ModelSpec) -> None:
    store = MemoryStore()
    meter = LatencyMeter(LIMIT, small, CPU, store)
    for depth in range(2, 12):
        meter.measure(deep(small, depth))
    readings: Sequence[LatencyMeasurement] = meter.readings.all()
    fresh = [one for one in readings if one.predicted is not None]
    assert len(fresh) == len(readings) - 6
    errors = [abs((one.predicted or 0) / one.seconds - 1) for one in fresh]
    assert statistics.median(errors) < 0.05
    assert meter.readings.get(key_of(small)) is not None


def test_a_failed_export_at_the_end_does_not_end_a_finished_search(
    small: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_meter: LatencyMeter, _model: ModelSpec) -> None:
        raise RuntimeError("an operator cannot be exported")

    monkeypatch.setattr(LatencyMeter, "_make_step", fail)
    store: Any = SimpleNamespace(reference_runs=list, get_meta=lambda _key: None)  # without set_meta: nothing is kept
    verdict: Any = SimpleNamespace(prediction=SimpleNamespace(equals=()), winner=SimpleNamespace(model=small))
    measure_equals(store, verdict, CPU, meter := LatencyMeter(LIMIT, small, CPU, MemoryStore()))
    assert meter.readings.all() == []
