"""Whole searches on real digits, small: a study is a function of its spec and seed, and a stop loses nothing."""

import csv
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from t2tbuild import build_model, load_search_spec, load_spec, measure_cost, predict_cost, search, write_spec
from t2tbuild.cli.search_runs import load_result
from t2tbuild.errors import InputError, SearchError, TrainingError
from t2tbuild.nas import Outcome, SearchResult, State
from t2tbuild.nas import evaluator as evaluator_module
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.record import Rung, Source
from t2tbuild.report.pareto import plot_pareto
from t2tbuild.spec import ModelSpec, SearchSpec
from tests.command import Running, run_t2tbuild, start_t2tbuild
from tests.database_file import open_database_file
from tests.nas.conftest import FakeTrainer, tiny_search

pytestmark = pytest.mark.slow

Tiny = Callable[..., SearchSpec]


def story(result: SearchResult) -> list[tuple[object, ...]]:
    """Everything of a search but its seconds: trainings, states, rungs, in their order."""
    return [
        (
            record.number,
            record.seed,
            record.source,
            record.state,
            record.model,
            record.macs,
            [(rung.accuracy, rung.loss) for rung in record.rungs],
        )
        for record in (*result.reference_runs, *result.records)
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    folder = tmp_path_factory.mktemp("search")
    return search(tiny_search(folder), folder / "run")


def test_what_a_search_leaves(unbroken: SearchResult) -> None:
    assert unbroken.outcome is Outcome.COMPLETE
    assert unbroken.count(State.COMPLETED, State.PRUNED, State.FAILED) == 4
    best = load_spec(unbroken.run / "best.yaml")
    assert best == unbroken.best
    assert "seed 0" in (unbroken.run / "best.yaml").read_text().splitlines()[0]
    assert measure_cost(build_model(best.model)).macs == unbroken.winner.macs
    report = json.loads((unbroken.run / "report.json").read_text())
    assert report["verdict"] == unbroken.verdict.sentence
    assert report["counts"]["trained_over_budget"] == 0
    assert len(report["candidates"]) == len(unbroken.records)
    kept = {path.name for path in (unbroken.run / "trials").glob("*")}
    assert kept == {
        f"{record.key}-{record.seed}" for record in unbroken.reference_runs
    }  # a later verdict may need them


def test_the_base_comes_first_with_its_seeds_then_the_confirmations(unbroken: SearchResult) -> None:
    assert [(record.number, record.seed) for record in unbroken.reference_runs[:2]] == [("base", 0), ("base", 1)]
    confirmed = unbroken.reference_runs[2:]
    assert {record.seed for record in confirmed} == {1}
    assert Source.RANDOM in {record.source for record in confirmed}
    assert all(record.state is State.COMPLETED for record in confirmed)


def test_the_test_split_is_evaluated_once(unbroken: SearchResult) -> None:
    assert unbroken.test is not None
    assert unbroken.test["evaluations"] == 1
    assert len(unbroken.test["of_base"]) == 2
    again = search(unbroken.spec, unbroken.run)
    assert again.test == unbroken.test


def test_no_trained_candidate_is_over_budget_by_fvcores_count_at_full_size(unbroken: SearchResult) -> None:
    with (unbroken.run / "candidates.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    records = (*unbroken.reference_runs, *unbroken.records)
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert record.model is not None
        counted = measure_cost(build_model(record.model))
        assert (int(row["params"]), int(row["macs"])) == (counted.params, counted.macs)
        assert counted.macs <= 3_000_000
        assert "quarter of their width" in row["trained_as"]


def test_same_seed_same_candidates(unbroken: SearchResult, tmp_path: Path, tiny: Tiny) -> None:
    assert story(search(tiny(), tmp_path / "same")) == story(unbroken)
    assert story(search(tiny("search.seed=1"), tmp_path / "other")) != story(unbroken)


def test_a_complete_search_is_reported_again(unbroken: SearchResult) -> None:
    before = (unbroken.run / "candidates.csv").read_text()
    again = search(unbroken.spec, unbroken.run)
    assert again.records == unbroken.records
    assert (unbroken.run / "candidates.csv").read_text() == before


def test_more_trials_continue_the_study(unbroken: SearchResult, tmp_path: Path, tiny: Tiny) -> None:
    search(tiny("search.trials=2", "search.confirm=null"), tmp_path / "run")
    longer = search(tiny(), tmp_path / "run")
    assert story(longer) == story(unbroken)


def test_another_seed_is_refused(unbroken: SearchResult) -> None:
    other = unbroken.spec.model_copy(update={"search": unbroken.spec.search.model_copy(update={"seed": 7})})
    with pytest.raises(InputError, match=r"(?s)another spec.*\+.*seed: 7"):
        search(other, unbroken.run)


def command(folder: Path, *more: str) -> list[str]:
    tiny_search(folder)
    return ["search", str(folder / "tiny.yaml"), "--out", str(folder / "run"), *more]


def start(folder: Path) -> Running:
    """A real search of one worker, once its first candidate is running."""
    process = start_t2tbuild(*command(folder, "--workers", "1"))
    deadline = time.monotonic() + 120
    while _candidates(folder / "run") < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def _candidates(run: Path) -> int:
    message = "select count(*) from trials t join studies s on t.study_id = s.study_id where s.study_name = 'tiny'"
    try:
        with open_database_file(run / "study.db", "ro") as database:
            return int(database.execute(message).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_a_stopped_search_continues_to_the_same_candidates(unbroken: SearchResult, tmp_path: Path) -> None:
    """By SIGTERM; tests/cli/test_search_command.py has SIGINT."""
    process = start(tmp_path)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert f"t2tbuild search resume {tmp_path / 'run'}\n" in err
    assert "Traceback" not in err
    with open_database_file(tmp_path / "run" / "study.db") as database:
        assert database.execute("select count(*) from trials where state = 'RUNNING'").fetchone()[0] == 0
    continued = run_t2tbuild(*command(tmp_path, "--workers", "1", "--json"))
    result = json.loads(continued.stdout)
    assert (result["counts"]["trained"], result["outcome"]) == (4, "complete")
    for name in ("candidate", "seed", "state", "params", "macs", "accuracy", "loss"):
        assert column(tmp_path / "run", name) == column(unbroken.run, name)


def column(folder: Path, name: str) -> list[str]:
    with (folder / "candidates.csv").open() as stream:
        return [row[name] for row in csv.DictReader(stream)]


@pytest.mark.nightly
def test_interrupts_change_nothing_of_a_long_search(
    tmp_path: Path, tiny: Tiny, fake_trainer: type[FakeTrainer]
) -> None:
    """Twenty candidates, twice as many as TPE starts with at random; interrupts at various trainings, then resumed."""
    spec = tiny("search.trials=20", "search.proxy.rungs=[1, 2, 3]", "search.zero_cost.names=[]", "search.patience=null")
    wanted = search(spec, tmp_path / "uninterrupted")
    started, stops = 0, list[int]()
    train = fake_trainer.train

    def stopped(self: FakeTrainer, *arguments: Any) -> Iterator[Rung]:
        nonlocal started
        started += 1
        if started in stops:
            raise KeyboardInterrupt
        yield from train(self, *arguments)

    fake_trainer.train = stopped  # type: ignore[method-assign]
    for stops in ([6], [1, 8, 12, 17]):
        started, run = 0, tmp_path / f"interrupted-{len(stops)}"
        for _ in stops:
            with pytest.raises(KeyboardInterrupt):
                search(spec, run)
        assert story(search(spec, run)) == story(wanted)
    assert {State.COMPLETED, State.PRUNED} <= {record.state for record in wanted.records}


def test_a_failed_training_is_recorded_and_the_search_continues(
    tmp_path: Path, tiny: Tiny, fake_trainer: type[FakeTrainer]
) -> None:
    """Out-of-memory errors, a loss that is not finite, and a bug each fail their own candidate only."""
    causes = iter(
        [
            MemoryError(),
            RuntimeError("[enforce fail] DefaultCPUAllocator: not enough"),
            TrainingError("the loss is nan at step 3"),
            KeyError("a bug"),
        ]
    )
    train, base = fake_trainer.train, iter(range(2))

    def failing(self: FakeTrainer, *arguments: Any) -> Iterator[Rung]:
        if next(base, None) is None and (cause := next(causes, None)) is not None:
            raise cause
        yield from train(self, *arguments)

    fake_trainer.train = failing  # type: ignore[method-assign]
    result = search(tiny("search.trials=6"), tmp_path / "run")
    reasons = [record.reason for record in result.records if record.state is State.FAILED]
    assert ["out of memory" in reason for reason in reasons] == [True, True, False, False]
    assert reasons[2:] == ["the loss is nan at step 3", "KeyError: 'a bug'"]
    assert result.count(State.COMPLETED, State.PRUNED) == 2


@pytest.mark.usefixtures("fake_trainer")
def test_a_folder_of_any_name_holds_its_study(tmp_path: Path, tiny: Tiny) -> None:
    for name in ("a?1", "a?2", "50% #[b/c]"):
        search(tiny("search.trials=1"), tmp_path / name)
        assert (tmp_path / name / "study.db").is_file()


def test_a_search_without_a_winner_gives_the_reason(
    tmp_path: Path, tiny: Tiny, fake_trainer: type[FakeTrainer]
) -> None:
    def failing(*_arguments: Any) -> Iterator[Rung]:
        raise TrainingError("the loss is nan")

    fake_trainer.train = failing  # type: ignore[method-assign]
    with pytest.raises(SearchError, match=r"the loss is nan \(6 trainings\); a failed training is not repeated"):
        search(tiny(), tmp_path / "run")


@pytest.mark.usefixtures("fake_trainer")
def test_a_base_that_changed_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    spec = tiny("search.trials=1")
    search(spec, tmp_path / "run")
    write_spec(load_spec(tmp_path / "small.yaml", ["model.backbone.mlp_ratio=3"]), tmp_path / "small.yaml")
    with pytest.raises(InputError, match="the base small has changed"):
        search(spec, tmp_path / "run")


def test_the_timeout_stops_and_the_next_run_goes_on(unbroken: SearchResult, tmp_path: Path, tiny: Tiny) -> None:
    """The base is trained once whatever the timeout, so that the report has a result."""
    short = search(tiny("search.timeout=0.001"), tmp_path / "run")
    assert short.outcome is Outcome.TIMEOUT
    assert short.verdict.sentence == "No candidate was trained to the last rung: the time was over. The base wins."
    assert short.winner.number == "base"
    longer = search(tiny(), tmp_path / "run")
    assert sorted(map(str, story(longer))) == sorted(map(str, story(unbroken)))


@pytest.mark.usefixtures("fake_trainer")
def test_a_base_over_budget_is_scaled_into_it(tmp_path: Path, tiny: Tiny) -> None:
    result = search(tiny("search.budget.macs=1100K", "search.trials=1"), tmp_path / "run")
    assert result.base.state is State.COMPLETED
    assert result.base.model is not None
    assert result.base.model.name == "small_1x64"  # half of its depth fits at its width
    assert result.base.macs == predict_cost(result.base.model).macs <= 1_100_000


@pytest.mark.usefixtures("fake_trainer")
def test_a_base_of_one_value_per_block_is_scaled_too(tmp_path: Path, tiny: Tiny) -> None:
    tiny()
    base = (tmp_path / "small.yaml").read_text()
    (tmp_path / "small.yaml").write_text(base.replace("mlp_ratio: 2}", "mlp_ratio: [2, 3]}"))
    narrower = "search.space={backbone.embed_dim: {choices: [32, 64]}}"
    spec = load_search_spec(tmp_path / "tiny.yaml", [narrower, "search.budget.macs=1100K", "search.trials=1"])
    result = search(spec, tmp_path / "run")
    assert result.base.state is State.COMPLETED
    assert result.base.model is not None
    assert result.base.model.backbone.mlp_ratio == (2,)


@pytest.mark.parametrize(
    ("macs", "reason"),
    [
        ("1100K", "over its budget of 1.10M MACs; this version trains small_1x64 .*search export RUN still reads it"),
        ("600K", "the base small is over 600.0K MACs, and so is every smaller one"),
    ],
)
@pytest.mark.usefixtures("fake_trainer")
def test_a_search_from_before_bases_were_scaled_is_read_but_not_continued(
    macs: str, reason: str, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny(f"search.budget.macs={macs}", "search.trials=1")
    with monkeypatch.context() as earlier:
        earlier.setattr("t2tbuild.nas.plan.scale_to_budget", lambda base, _budget: (base, ()))
        before = search(spec, tmp_path / "run")
    assert before.base.state is State.INFEASIBLE
    with pytest.raises(InputError, match=reason):
        search(spec, tmp_path / "run")
    assert story(load_result(tmp_path / "run", None)) == story(before)


def test_a_budget_below_the_smallest_fails_before_anything_is_written(tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(InputError, match="smallest of the space"):
        search(tiny("search.budget.macs=50K"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("fake_trainer")
def test_a_small_space_is_exhausted_and_nothing_is_trained_twice(tmp_path: Path, tiny: Tiny) -> None:
    space = "search.space={backbone.mlp_ratio: {choices: [1, 2]}, backbone.depth: {choices: [1, 2]}}"
    for sampler in ("tpe", "brute_force", "random", "nsga2", "gp"):
        spec = tiny(space, "search.trials=50", f"search.sampler={sampler}", f"search.name={sampler}")
        result = search(spec, tmp_path / sampler)
        assert result.outcome is Outcome.EXHAUSTED
        assert len({record.key for record in result.records}) == len(result.records) == 3  # the base is the fourth
        assert result.base.key not in {record.key for record in result.records}
        assert len(search(spec, tmp_path / sampler).records) == 3


@pytest.mark.usefixtures("fake_trainer")
def test_invalid_draws_are_repeated_and_counted(tmp_path: Path, tiny: Tiny) -> None:
    space = "search.space={backbone.embed_dim: {choices: [33, 64, 96]}, backbone.depth: {choices: [1, 2, 40]}}"
    result = search(tiny(space, "search.trials=4"), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["counts"]["drawn_infeasible"] > 0
    assert all(record.rungs for record in result.records)
    assert report["counts"]["infeasible"] == report["counts"]["trained_over_budget"] == 0


@pytest.mark.usefixtures("fake_trainer")
def test_models_that_the_spec_names_are_tried_first(tmp_path: Path, tiny: Tiny) -> None:
    tiny()
    wider = load_spec(
        tmp_path / "small.yaml", ["model.backbone.mlp_ratio=3", "model.backbone.depth=7", "model.name=wider"]
    )
    write_spec(wider, tmp_path / "wider.yaml")
    result = search(tiny("search.enqueue=[wider.yaml]".replace("wider", str(tmp_path / "wider"))), tmp_path / "run")
    assert (result.records[0].number, result.records[0].source) == ("wider", Source.NAMED)
    assert isinstance(wider.model, ModelSpec)
    assert result.records[0].key == key_of(wider.model)
    stranger = load_spec(tmp_path / "small.yaml", ["model.backbone.mlp_ratio=7", "model.name=stranger"])
    write_spec(stranger, tmp_path / "stranger.yaml")
    with pytest.raises(InputError, match="stranger is not a member of the space"):
        search(tiny(f"search.enqueue=[{tmp_path / 'stranger.yaml'}]"), tmp_path / "other")


@pytest.mark.usefixtures("fake_trainer")
def test_several_objectives_leave_a_front(tmp_path: Path, tiny: Tiny) -> None:
    spec = tiny(
        "search.objectives=[accuracy, macs]",
        "search.trials=10",
        "search.sampler=nsga2",
        "search.proxy.reduction_factor=2",
    )
    result = search(spec, tmp_path / "run")
    fronts = sorted((tmp_path / "run" / "front").glob("*.yaml"))
    assert fronts
    points = {
        record.number: (record.score("loss"), record.macs)
        for record in result.records
        if record.state is State.COMPLETED
    }
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {f"tiny_{int(number):04}" for number in report["front"]} == {path.stem for path in fronts}
    for number in report["front"]:
        score, macs = points[number]
        assert not any(other[0] >= score and other[1] < macs for other in points.values())  # type: ignore[operator]


@pytest.mark.usefixtures("fake_trainer")
def test_a_candidate_that_cannot_be_counted_fails_alone(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = evaluator_module.count_model

    def counting(model: ModelSpec) -> object:
        if model.name == "tiny_0001":
            raise RuntimeError("no such kernel")
        return count(model)

    monkeypatch.setattr(evaluator_module, "count_model", counting)
    result = search(tiny("search.zero_cost.pool=3"), tmp_path / "run")
    failed = [record for record in result.records if record.state is State.FAILED]
    assert [(record.number, record.reason) for record in failed] == [("1", "RuntimeError: no such kernel")]
    assert result.outcome is Outcome.COMPLETE


@pytest.mark.usefixtures("fake_trainer")
def test_the_base_is_not_a_candidate_even_if_the_spec_names_it(tmp_path: Path, tiny: Tiny) -> None:
    tiny()
    result = search(tiny(f"search.enqueue=[{tmp_path / 'small.yaml'}]"), tmp_path / "run")
    assert len(result.records) == 4
    assert result.base.key not in {record.key for record in result.records}


def test_a_trial_that_was_reassigned_is_left_to_the_other_worker(
    tmp_path: Path, tiny: Tiny, fake_trainer: type[FakeTrainer]
) -> None:
    """A worker returns after missing heartbeats: its training is another worker's now, and it takes the next one."""
    train, trainings = fake_trainer.train, 0

    def reassigned(self: FakeTrainer, *arguments: Any) -> Iterator[Rung]:
        nonlocal trainings
        trainings += 1
        if trainings == 4:
            with open_database_file(tmp_path / "run" / "study.db") as database:
                database.execute("update trials set state = 'WAITING' where state = 'RUNNING'")
        return train(self, *arguments)

    fake_trainer.train = reassigned  # type: ignore[method-assign]
    result = search(tiny(), tmp_path / "run")
    assert result.outcome is Outcome.COMPLETE
    assert result.count(State.COMPLETED, State.PRUNED) == 4


def test_the_picture_is_drawn(unbroken: SearchResult, tmp_path: Path) -> None:
    plot_pareto(unbroken, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
