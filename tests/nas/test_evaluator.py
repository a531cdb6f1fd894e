"""A user's own function evaluates candidates in place of proxy training; the budget still holds."""

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from t2tbuild import search
from t2tbuild.errors import FieldError, InputError
from t2tbuild.nas import Outcome, SearchResult, State, scheduler
from t2tbuild.nas.evaluator import Candidate, FunctionEvaluator, Measurements
from t2tbuild.nas.evaluator_function import load_function
from t2tbuild.nas.existing_run import reopen_store
from t2tbuild.nas.plan import plan
from t2tbuild.nas.store.trials import Kind
from t2tbuild.report.verdict_table import confirmation_rows, gain_lines
from t2tbuild.spec import SearchSpec

Tiny = Callable[..., SearchSpec]
OWN = """
import os

def evaluate(candidate, steps):
    assert os.environ.get("OWN") == "set"
    return {"accuracy": 0.01 * candidate.model.backbone.embed_dim, "loss": 1.0 / steps}
"""


@pytest.fixture(autouse=True)
def quick(fake_trainer: object) -> None:
    """Count candidates in closed form."""


def by_width(candidate: Candidate, steps: int) -> float:
    candidate.check()
    return 0.005 * candidate.model.backbone.embed_dim + 0.01 * steps + 1e-4 * candidate.seed % 1e-3


def test_a_function_ranks_the_candidates(tmp_path: Path, tiny: Tiny) -> None:
    calls: list[tuple[str, int]] = []

    def evaluate(candidate: Candidate, steps: int) -> float:
        calls.append((candidate.key, steps))
        candidate.folder.mkdir(parents=True, exist_ok=True)
        (candidate.folder / f"{steps}.txt").write_text("mine")
        assert steps == 1 or (candidate.folder / "1.txt").exists()
        return by_width(candidate, steps)

    result = search(tiny("search.trials=8"), tmp_path / "run", evaluator=evaluate)
    assert result.outcome is Outcome.COMPLETE
    assert result.spec.search.target == "data"
    assert result.spec.search.proxy.metric == "accuracy"
    assert {steps for _, steps in calls} == {1, 2}
    assert len(calls) == len(set(calls)) + sum(record.seed > 0 for record in result.reference_runs) * 2
    completed = [record for record in (*result.records, result.base) if record.state is State.COMPLETED]
    widest = max(record.model.backbone.embed_dim for record in completed if record.model)
    assert result.winner.model is not None
    assert result.winner.model.backbone.embed_dim == widest
    assert result.winner.macs is not None
    assert result.winner.macs <= 3_000_000
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["counts"]["trained_over_budget"] == 0
    assert report["test"] is None
    rows = confirmation_rows(result).values()
    assert {row[-2] for row in rows} == {"-"}  # no loss was measured
    assert all("%" in row[-1] for row in rows)


def test_a_named_function_of_the_working_directory(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_evaluation.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWN", "set")
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = tiny("search.evaluator=own_evaluation:evaluate", "search.trials=2")
    result = search(spec, tmp_path / "run")
    assert result.outcome is Outcome.COMPLETE
    assert result.trained_as == "by own_evaluation:evaluate, up to 2 steps"
    again = search(spec, tmp_path / "run")
    assert again.records == result.records


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("def evaluate(candidate, steps)\n", r"expected ':' \(faulty.py, line 1\)", "correct faulty"),
        ("import json\njson.loads('')\n", "JSONDecodeError: Expecting value", "correct faulty"),
        ("x = {}['missing']\n", r"KeyError: 'missing' \(faulty.py, line 1\)", "correct faulty"),
        ("import no_such_module\n", "No module named 'no_such_module'", "correct faulty"),
        ("raise SystemExit(3)\n", "SystemExit: 3", "correct faulty"),
    ],
)
def test_a_module_that_fails_is_reported_before_anything_is_written(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, text: str, message: str, hint: str
) -> None:
    (tmp_path / "faulty.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    with pytest.raises(FieldError, match=f"the module faulty cannot be imported: {message}") as caught:
        search(tiny("search.evaluator=faulty:evaluate"), tmp_path / "run")
    assert (caught.value.path, caught.value.hint) == (("search", "evaluator"), hint)
    assert not (tmp_path / "run").exists()


def test_a_file_in_place_of_a_module_gets_the_name_of_the_module() -> None:
    with pytest.raises(FieldError) as caught:
        load_function("no_such_file.py:evaluate")
    assert caught.value.hint == "write no_such_file:evaluate"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:evaluate", "the module no_such_module cannot be imported"),
        ("json:evaluate", "the module json has no function evaluate"),
        ("json:__doc__", "the module json has no function __doc__"),
    ],
)
def test_a_function_that_is_not_there_is_reported(name: str, message: str) -> None:
    with pytest.raises(FieldError, match=message) as caught:
        load_function(name)
    assert caught.value.path == ("search", "evaluator")


@pytest.mark.slow
def test_latency_measured_by_the_function_is_a_hard_limit(tmp_path: Path, tiny: Tiny) -> None:
    """It is asked before any training, with 0 steps."""
    trained: list[int] = []

    def evaluate(candidate: Candidate, steps: int) -> Mapping[str, float]:
        if steps == 0:
            return {"latency": 0.001 * candidate.model.backbone.depth}
        trained.append(candidate.model.backbone.depth)
        return {"accuracy": 0.5}

    spec = tiny("search.budget.latency=4ms", "search.trials=3", "search.confirm=null")
    result = search(spec, tmp_path / "run", evaluator=evaluate)
    assert trained
    assert max(trained) <= 4
    assert all(record.latency is not None for record in result.records)
    assert result.count(State.INFEASIBLE) == sum((record.latency or 0) > 0.004 for record in result.records)


def failing(kind: str) -> Callable[[Candidate, int], Any]:
    def evaluate(_candidate: Candidate, _steps: int) -> Any:
        match kind:
            case "raises":
                raise ValueError("the board is off\nand more")
            case "exits":
                sys.exit(3)
            case "text":
                return "0.5"
            case "unknown":
                return {"acuracy": 0.5}
            case "percent":
                return {"accuracy": 83.5}
            case "nan":
                return float("nan")
        return None

    return evaluate


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("raises", "ValueError: the board is off"),
        ("exits", "SystemExit: 3"),
        ("text", "the evaluator evaluate returned a str for accuracy; return a number"),
        ("unknown", "returned unknown measurements: acuracy; known are accuracy, loss, latency, scores, seconds"),
        ("nan", "the evaluator evaluate returned no finite accuracy, got nan"),
        ("nothing", "the evaluator evaluate returned no finite accuracy, got None"),
        ("percent", "the evaluator evaluate returned accuracy 83.5; write 0 to 1"),
    ],
)
def test_a_function_that_fails_fails_its_candidate_only(tmp_path: Path, tiny: Tiny, kind: str, reason: str) -> None:
    calls = 0

    def evaluate(candidate: Candidate, steps: int) -> Any:
        nonlocal calls
        calls += 1
        return failing(kind)(candidate, steps) if calls == 5 else by_width(candidate, steps)

    evaluate.__name__ = "evaluate"
    result = search(tiny("search.trials=2", "search.confirm=null"), tmp_path / "run", evaluator=evaluate)
    (failed,) = [record for record in result.records if record.state is State.FAILED]
    assert reason in failed.reason
    assert result.outcome is Outcome.COMPLETE
    _, _, opened = reopen_store(tmp_path / "run", None)
    with opened as store:
        states = [trial.state.name for trial in store._studies[Kind.CANDIDATE].get_trials()]
    assert "FAIL" in states
    assert "RUNNING" not in states


def test_what_a_function_may_return(tiny: Tiny) -> None:
    """Plain numbers of Python, NumPy and torch, alone or by name; records hold Python's."""
    candidate: Any = None
    settings = plan(tiny(), has_evaluator=True).search
    numbers = (0.5, np.float32(0.5), torch.tensor(0.5))
    for returned in (*numbers, *({"accuracy": one} for one in numbers), *map(Measurements, numbers)):  # type: ignore[arg-type]
        found = FunctionEvaluator(lambda _candidate, _steps, value=returned: value, settings).evaluate(candidate, 1)
        assert (found.accuracy, type(found.accuracy)) == (0.5, float)
    assert FunctionEvaluator(lambda *_: 0.5, settings).evaluate(candidate, 0) == Measurements()


@pytest.mark.parametrize("objectives", ["[accuracy]", "[accuracy, macs]"])
def test_without_confirmation_the_winner_is_not_said_to_be_unable_to_win(
    tmp_path: Path, tiny: Tiny, objectives: str
) -> None:
    spec = tiny("search.trials=4", "search.confirm=null", f"search.objectives={objectives}")
    result = search(spec, tmp_path / "run", evaluator=by_width)
    assert "no candidate was retrained" in result.verdict.sentence
    assert result.winner.number != "base"
    assert not any("cannot win" in line for line in gain_lines(result))


def test_a_candidate_with_the_best_single_run_that_was_not_retrained_is_named(tmp_path: Path, tiny: Tiny) -> None:
    spec = tiny("search.trials=4", "search.confirm={best: 2, random: 0, seeds: 1}", "search.proxy.scheduler=never")
    result = search(spec, tmp_path / "run", evaluator=by_width)
    best = max((one for one in result.records if one.rungs), key=lambda one: result.ranking.value(one))
    others = tuple(one for one in result.reference_runs if one.key != best.key)
    assert any("cannot win" in line for line in gain_lines(result)) == (others == result.reference_runs)
    (line,) = [line for line in gain_lines(replace(result, reference_runs=others)) if "cannot win" in line]
    assert line.startswith(f"candidate {best.number} has the best single run")


def test_a_search_is_not_continued_by_another_evaluator(tmp_path: Path, tiny: Tiny) -> None:
    search(tiny("search.trials=1", "search.confirm=null"), tmp_path / "run", evaluator=by_width)
    with pytest.raises(InputError, match=r"evaluates its candidates by test_evaluator:by_width, not by proxy"):
        search(tiny("search.trials=2", "search.target=data", "search.proxy.metric=accuracy"), tmp_path / "run")
    again = search(tiny("search.trials=2", "search.confirm=null"), tmp_path / "run", evaluator=by_width)
    assert len(again.records) == 2
    assert again.evaluator == "test_evaluator:by_width"


def test_saved_rungs_are_not_evaluated_again(tmp_path: Path, tiny: Tiny) -> None:
    calls: list[tuple[str, int]] = []

    def evaluate(candidate: Candidate, steps: int) -> float:
        calls.append((f"{candidate.key} {candidate.seed}", steps))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return by_width(candidate, steps)

    spec = tiny("search.trials=3", "search.confirm=null", "search.proxy.scheduler=never")
    with pytest.raises(KeyboardInterrupt):
        search(spec, tmp_path / "run", evaluator=evaluate)
    search(spec, tmp_path / "run", evaluator=evaluate)
    assert len(calls) == len(set(calls)) + 1  # the one that was interrupted
    assert not list((tmp_path / "run" / "trials").glob("*"))


def test_a_latency_that_no_candidate_has_ends_the_search(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "MAX_OVER_BUDGET", 8)

    def evaluate(_candidate: Candidate, steps: int) -> Mapping[str, float]:
        return {"accuracy": 0.5} if steps else {"latency": 1.0}

    message = r"no candidate is within search\.budget\.latency 4.00 ms, .*: the fastest of \d+ was 1,000 ms"
    with pytest.raises(InputError, match=message):
        search(tiny("search.budget.latency=4ms", "search.trials=2"), tmp_path / "run", evaluator=evaluate)


def test_a_function_needs_one_worker_and_says_nothing_of_imagenet(tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(InputError, match=r"evaluator needs workers=1; name the function in search\.evaluator"):
        search(tiny(), tmp_path / "run", evaluator=by_width, workers=2)
    with pytest.raises(FieldError, match="says nothing of ImageNet"):
        search(tiny("search.target=imagenet"), tmp_path / "run", evaluator=by_width)
    assert not (tmp_path / "run").exists()


def test_a_search_in_which_nothing_reached_the_last_rung_ends_with_a_report(tmp_path: Path, tiny: Tiny) -> None:
    def evaluate(candidate: Candidate, steps: int) -> float:
        if steps == 2:
            raise MemoryError
        return by_width(candidate, steps)

    result: SearchResult = search(tiny("search.trials=2"), tmp_path / "run", evaluator=evaluate)
    assert result.verdict.sentence.startswith("No training reached the last rung of 2 steps: ")
    assert "out of memory" in result.verdict.sentence
    assert result.winner.steps == 1
    assert (tmp_path / "run" / "report.json").exists()
    assert (tmp_path / "run" / "best.yaml").exists()


def test_a_search_stops_when_more_candidates_no_longer_help(tmp_path: Path, tiny: Tiny) -> None:
    def evaluate(candidate: Candidate, steps: int) -> float:
        return 0.9 if steps and candidate.model.backbone.mlp_ratio == 1 else 0.5

    spec = tiny("search.trials=50", "search.patience=4", "search.confirm=null", "search.proxy.scheduler=never")
    result = search(spec, tmp_path / "run", evaluator=evaluate)
    assert result.outcome is Outcome.CONVERGED
    assert len(result.records) < 20
    assert result.stop_reason.startswith("the last 4 candidates did not improve")
    assert json.loads((tmp_path / "run" / "report.json").read_text())["stop_reason"] == result.stop_reason
