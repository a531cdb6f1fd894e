"""Whole searches on real digits, small: a study is a function of its spec and seed, and a kill loses nothing."""

import csv
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from t2tbuild import build_model, load_search_spec, load_spec, measure_cost, search, write_spec
from t2tbuild.errors import InputError, SearchError, TrainingError
from t2tbuild.report.pareto import pareto_front, plot_pareto
from t2tbuild.search import Outcome, Record, SearchResult, State
from t2tbuild.search.record import Rung, canonical
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.train.data import Data

TINY = ["search.trials=4", "search.proxy.rungs=[1, 2]", "search.proxy.keep=2", "search.proxy.data.image_size=16"]
LIMIT = 5_000_000_000


def run(out: Path, *overrides: str) -> SearchResult:
    return search(load_search_spec("deep_narrow", [*TINY, *overrides]), out)


def story(result: SearchResult) -> list[tuple[object, ...]]:
    """Everything of a search but its seconds: candidates, states, rungs, in their order."""
    return [
        (record.number, record.state, record.model, record.macs, [(rung.accuracy, rung.loss) for rung in record.rungs])
        for record in result.records
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return run(tmp_path_factory.mktemp("search") / "run")


def test_what_a_search_leaves(unbroken: SearchResult) -> None:
    assert unbroken.outcome is Outcome.COMPLETE
    assert unbroken.count(State.TOP, State.STOPPED, State.FAILED) == 4
    best = load_spec(unbroken.run / "best.yaml")
    assert best == unbroken.best
    assert "seed 0" in (unbroken.run / "best.yaml").read_text().splitlines()[0]
    assert measure_cost(build_model(best.model)).macs == unbroken.winner.macs


def test_no_trained_candidate_is_over_budget_by_fvcores_count_at_full_size(unbroken: SearchResult) -> None:
    with (unbroken.run / "candidates.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(unbroken.records) >= 5
    for row, record in zip(rows, unbroken.records, strict=True):
        if record.state.trained:
            assert record.model is not None
            counted = measure_cost(build_model(record.model))
            assert (int(row["params"]), int(row["macs"])) == (counted.params, counted.macs)
            assert counted.macs <= LIMIT
            assert "quarter-width twins" in row["trained_as"]


def test_same_seed_same_candidates(unbroken: SearchResult, tmp_path: Path) -> None:
    assert story(run(tmp_path / "same")) == story(unbroken)
    assert story(run(tmp_path / "other", "search.seed=1")) != story(unbroken)


def test_a_complete_search_is_only_reported(unbroken: SearchResult) -> None:
    before = (unbroken.run / "candidates.csv").read_text()
    again = run(unbroken.run)
    assert again.records == unbroken.records
    assert (unbroken.run / "candidates.csv").read_text() == before


def test_more_trials_continue_the_study(unbroken: SearchResult, tmp_path: Path) -> None:
    run(tmp_path / "run", "search.trials=2")
    longer = run(tmp_path / "run")
    assert story(longer) == story(unbroken)


def test_another_seed_is_refused(unbroken: SearchResult) -> None:
    with pytest.raises(InputError, match=r"(?s)another spec.*\+.*seed: 7"):
        run(unbroken.run, "search.seed=7")


def command(out: Path, *more: str) -> list[str]:
    spec = out.parent / "tiny.yaml"
    write_spec(load_search_spec("deep_narrow", TINY), spec)
    return [sys.executable, "-m", "t2tbuild", "search", str(spec), "--budget-macs", "5G", "--out", str(out), *more]


def start(out: Path) -> subprocess.Popen[str]:
    """A real search, once the base is trained and the first candidate is under way."""
    process = subprocess.Popen(command(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not _trials(out):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def _trials(out: Path) -> int:
    try:
        with sqlite3.connect(f"file:{out / 'study.db'}?mode=ro", uri=True) as database:
            return int(database.execute("select count(*) from trials").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_search_continues_to_the_same_candidates(
    unbroken: SearchResult, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(tmp_path / "run")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number], err
    if number is not signal.SIGKILL:
        assert f"--out {tmp_path / 'run'}" in err
        assert "Traceback" not in err
    continued = subprocess.run(command(tmp_path / "run", "--json"), capture_output=True, text=True, check=True)
    result = json.loads(continued.stdout)
    assert (result["trained"], result["outcome"]) == (4, "complete")
    with sqlite3.connect(tmp_path / "run" / "study.db") as database:
        assert database.execute("select count(*) from trials where state = 'RUNNING'").fetchone()[0] == 0
    again = run(tmp_path / "again")
    assert story(again) == story(unbroken)
    for name in ("candidate", "state", "params", "macs", "accuracy", "loss"):
        assert column(tmp_path / "run", name) == column(unbroken.run, name)


def column(folder: Path, name: str) -> list[str]:
    with (folder / "candidates.csv").open() as stream:
        return [row[name] for row in csv.DictReader(stream)]


def pretend(
    model: ModelSpec,
    _data: Data,
    proxy: Proxy,
    *,
    seed: int,
    check: Callable[[], None],
    **_device: torch.device,
) -> Iterator[Rung]:
    """A training whose accuracies hang on the shape and on the seed, as real ones do."""
    for steps in proxy.rungs:
        check()
        accuracy = random.Random(f"{seed} {steps} {canonical(model)}").random()
        yield Rung(steps, accuracy, 1 - accuracy, 0.0)


@pytest.mark.parametrize("stops", [(), (3,), (1, 6, 9, 14)])
def test_interrupts_change_nothing_of_a_long_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: tuple[int, ...]
) -> None:
    """Twenty candidates, twice as many as TPE starts with at random; interrupts at various trainings, then resumed."""
    started = 0

    def stopped(*arguments: Any, **options: Any) -> Iterator[Rung]:
        nonlocal started
        started += 1
        if started in stops:
            raise KeyboardInterrupt
        yield from pretend(*arguments, **options)

    long = ["search.trials=20", "search.proxy.rungs=[1, 2, 3]"]
    monkeypatch.setattr("t2tbuild.search.study.climb", pretend)
    wanted = run(tmp_path / "unbroken", *long)
    monkeypatch.setattr("t2tbuild.search.study.climb", stopped)
    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", *long)
    assert story(run(tmp_path / "run", *long)) == story(wanted)
    assert {State.TOP, State.STOPPED} <= {record.state for record in wanted.records}


def test_a_training_that_fails_is_told_and_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    causes = iter([MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: not enough"), TrainingError("nan")])

    def failing(*arguments: Any, **options: Any) -> Iterator[Rung]:
        for rung in pretend(*arguments, **options):
            if options["seed"] != 0:  # the base's
                raise next(causes, KeyError)
            yield rung

    monkeypatch.setattr("t2tbuild.search.study.climb", failing)
    result = run(tmp_path / "run", "search.trials=3")
    reasons = [record.reason for record in result.records if record.state is State.FAILED]
    assert ["out of memory" in reason for reason in reasons] == [True, True, False]
    assert result.winner.number == "base"


def test_a_folder_of_any_name_holds_its_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2tbuild.search.study.climb", pretend)
    for name in ("a?1", "a?2", "50% #[b/c]"):
        run(tmp_path / name, "search.trials=1")
        assert (tmp_path / name / "study.db").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["50% #[b", "a?1", "a?2"]


def test_a_search_without_a_winner_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_arguments: Any, **_options: Any) -> Iterator[Rung]:
        raise TrainingError("the loss is nan")

    monkeypatch.setattr("t2tbuild.search.study.climb", failing)
    with pytest.raises(SearchError, match=r"the loss is nan \(5\)"):
        run(tmp_path / "run")


def test_a_base_that_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2tbuild.search.study.climb", pretend)
    write_spec(load_spec("t2t_vit_7"), tmp_path / "base.yaml")
    (tmp_path / "mine.yaml").write_text(
        "version: 1\nsearch:\n  base: base.yaml\n  budget: {macs: 5G}\n  trials: 1\n"
        "  space: {backbone.depth: {choices: [1, 2]}}\n  proxy: {rungs: [1], data: {image_size: 16}}\n"
    )
    search(load_search_spec(tmp_path / "mine.yaml"), tmp_path / "run")
    write_spec(load_spec("t2t_vit_7", ["model.backbone.mlp_ratio=3"]), tmp_path / "base.yaml")
    with pytest.raises(InputError, match="the base t2t_vit_7 has changed"):
        search(load_search_spec(tmp_path / "mine.yaml"), tmp_path / "run")


def test_the_timeout_stops_and_the_next_run_goes_on(unbroken: SearchResult, tmp_path: Path) -> None:
    """The base is trained whatever the time, so that there is something to tell."""
    short = run(tmp_path / "run", "search.timeout=0.001")
    assert short.outcome is Outcome.TIMEOUT
    assert short.winner.number == "base"
    assert story(run(tmp_path / "run")) == story(unbroken)


def test_a_base_over_budget_is_not_trained(tmp_path: Path) -> None:
    result = run(tmp_path / "run", "search.budget.macs=2G", "search.trials=1")
    assert result.base.state is State.INFEASIBLE
    assert result.base.rungs == ()
    assert result.winner.macs is not None
    assert result.winner.macs <= 2_000_000_000


def test_a_budget_below_the_smallest_fails_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="smallest of the space"):
        run(tmp_path / "run", "search.budget.macs=100M")
    assert not (tmp_path / "run").exists()


def small_search(folder: Path, budget: str, trials: int, space: str) -> Path:
    """A search around T2T-ViT-7 that takes a second or two."""
    (folder / "small.yaml").write_text(
        f"version: 1\nsearch:\n  base: t2t_vit_7\n  budget: {{macs: {budget}}}\n  trials: {trials}\n"
        f"  space: {{{space}}}\n  proxy: {{rungs: [1], data: {{image_size: 16}}}}\n"
    )
    return folder / "small.yaml"


def test_a_small_space_is_exhausted_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    spec = small_search(tmp_path, "5G", 50, "backbone.mlp_ratio: {choices: [1, 3]}, backbone.depth: {choices: [1, 2]}")
    result = search(load_search_spec(spec), tmp_path / "run")
    assert result.outcome is Outcome.EXHAUSTED
    assert result.count(State.TOP) == 4
    assert result.count(State.DUPLICATE) > 0
    assert len(search(load_search_spec(spec), tmp_path / "run").records) == len(result.records)
    assert all(record.rungs == () for record in result.records if record.state is State.DUPLICATE)


def test_candidates_that_cannot_be_are_told_and_not_trained(tmp_path: Path) -> None:
    space = "backbone.embed_dim: {choices: [100, 128, 192]}, backbone.depth: {choices: [1, 2, 40]}"
    result = search(load_search_spec(small_search(tmp_path, "1200M", 4, space)), tmp_path / "run")
    infeasible = [record for record in result.records if record.state is State.INFEASIBLE]
    assert {record.reason.split(",")[0] for record in infeasible} <= {
        "over budget",
        "embed_dim must be divisible by head_dim",
    }
    assert infeasible
    assert all(record.rungs == () for record in infeasible)
    assert result.count(State.TOP, State.STOPPED) == 4


def test_the_picture_is_drawn(unbroken: SearchResult, tmp_path: Path) -> None:
    plot_pareto(unbroken, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_the_front_by_hand() -> None:
    def point(number: str, macs: int, accuracy: float, state: State = State.TOP) -> Record:
        return Record(number, state, None, macs=macs, rungs=(Rung(1, accuracy, 0, 0),))

    points = [
        point("a", 3, 0.5),
        point("b", 1, 0.4),
        point("c", 2, 0.3),
        point("d", 3, 0.6),
        point("e", 9, 0.6),
        point("f", 1, 0.9, State.STOPPED),
    ]
    assert [record.number for record in pareto_front(points)] == ["b", "d"]
