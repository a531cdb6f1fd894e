"""The search on a supernet: its members, what decides, its processes, and that a stop loses nothing."""

import contextlib
import json
import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from t2tbuild import predict_cost, search
from t2tbuild.cli.supernet_status import supernet_line
from t2tbuild.errors import SearchError, TrainingError
from t2tbuild.nas import SearchResult
from t2tbuild.nas.plan import Plan, plan
from t2tbuild.nas.record import Source
from t2tbuild.nas.store.meta import SUPERNET as SUPERNET_META
from t2tbuild.nas.supernet import crew, phase
from t2tbuild.nas.supernet.crew import Processes
from t2tbuild.nas.supernet.evaluation import Measured, MemberEvaluator, Task
from t2tbuild.nas.supernet.evolution import mutate, propose
from t2tbuild.nas.supernet.inherited import (
    choose_parents,
    count_evaluations,
    front,
    order_proposals,
    search_inherited,
    within,
)
from t2tbuild.nas.supernet.latency import MEASURED, spread
from t2tbuild.nas.supernet.pool import SupernetMember, pool
from t2tbuild.nas.supernet.progress import PhaseProgress
from t2tbuild.nas.supernet.proposals import from_plain, to_plain
from t2tbuild.nas.supernet.results import (
    ConfirmedResult,
    InheritedResult,
    StandaloneResult,
    read_results,
    write_results,
)
from t2tbuild.nas.supernet.standalone import choose_confirmations, choose_random
from t2tbuild.nas.supernet.steps import Steps
from t2tbuild.nas.supernet.verdict import decide, measure_validity, measure_worth
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.supernet import SupernetSpec
from tests.nas.conftest import tiny_search

SUPERNET = "search.supernet={steps: 3, candidates: 24, validity: 8, best: 2, random: 2, budgets: [1800K]}"
SPACE = """search.space={
  backbone.embed_dim: {choices: [64, 96]},
  backbone.depth: {low: 1, high: 8},
  backbone.mlp_ratio: {choices: [1, 2, 3, 4]},
}"""
LATENCY = {"max": "50ms"}
LATENCIES = (("a", 0.3, 0.1), ("b", None, 0.2), ("c", 0.2, 0.3))
FILES = ("members.csv", "standalone.csv", "confirmed.csv")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan(tiny_search(tmp_path_factory.mktemp("plan"), SUPERNET))


@pytest.fixture(scope="module")
def members(planned: Plan) -> tuple[SupernetMember, ...]:
    return pool(planned)


def with_supernet(planned: Plan, **changes: object) -> Plan:
    settings = planned.search.supernet
    assert settings is not None
    supernet = SupernetSpec.model_validate(settings.model_dump() | changes)
    return replace(planned, search=planned.search.model_copy(update={"supernet": supernet}))


def loss_of(model: ModelSpec) -> float:
    """A loss that the narrow, deep members have the lowest of."""
    return 0.01 * model.backbone.embed_dim - 0.02 * model.backbone.num_blocks + 1e-9 * predict_cost(model).macs


def evaluate_all(seen: dict[str, InheritedResult]) -> Callable[[Sequence[SupernetMember]], dict[str, InheritedResult]]:
    def evaluate(chosen: Sequence[SupernetMember]) -> dict[str, InheritedResult]:
        assert not {one.key for one in chosen} & seen.keys()
        for one in chosen:
            seen[one.key] = InheritedResult(one.key, one.macs, one.params, None, 0.5, loss_of(one.model), one.values)
        return dict(seen)

    return evaluate


# Members


def test_offspring_differ_in_one_or_two_fields(planned: Plan, members: Sequence[SupernetMember]) -> None:
    rng, space = random.Random(0), planned.space
    parent = space.locate(members[0].model)
    assert parent is not None
    changes = [
        sum(child[path] != parent[path] for path in parent) for child in (mutate(space, parent, rng) for _ in range(50))
    ]
    assert set(changes) == {0, 1, 2}  # none where the solved field alone changes


def test_offspring_are_new_and_within_the_budget(planned: Plan, members: Sequence[SupernetMember]) -> None:
    seen = {one.key for one in members[:100]}
    found = propose(planned.members, [members[0].member], seen, 20, random.Random(0))
    assert len({one.key for one in found}) == 20
    assert not {one.key for one in found} & seen
    assert all(predict_cost(one.model).macs <= 3_000_000 for one in found)


@pytest.mark.parametrize("sampler", ["predicted", "tpe"])
def test_a_search_by_inherited_loss_beats_random_members(
    planned: Plan, members: Sequence[SupernetMember], sampler: str
) -> None:
    evolved: dict[str, InheritedResult] = {}
    planned = replace(planned, search=planned.search.model_copy(update={"sampler": sampler}))
    planned = with_supernet(planned, candidates=80, budgets=())
    found = search_inherited(planned, members, evaluate_all(evolved))
    assert [one.key for one in found] == list(evolved)
    assert len(found) == 80
    alike = replace(planned, search=planned.search.model_copy(update={"sampler": "random"}))
    at_random: dict[str, InheritedResult] = {}
    search_inherited(alike, members, evaluate_all(at_random))
    best, other = ([one.loss for one in within(list(each.values()), 0)[:10]] for each in (evolved, at_random))
    assert all(mine < theirs for mine, theirs in zip(best, other, strict=True))


def test_a_small_space_is_evaluated_once_and_whole(planned: Plan, members: Sequence[SupernetMember]) -> None:
    found = search_inherited(with_supernet(planned, candidates=5_000), members, evaluate_all({}))
    assert {one.key for one in found} == {one.key for one in members}


def test_the_front_and_the_best_within_a_limit() -> None:
    results = [
        InheritedResult(key, macs, params, None, 0.5, loss)
        for key, macs, params, loss in (("a", 3, 1, 0.1), ("b", 2, 5, 0.2), ("c", 1, 9, 0.3), ("d", 3, 9, math.nan))
    ]
    assert [one.key for one in front(results, "macs")] == ["a", "b", "c"]
    assert [one.key for one in front(results, "params")] == ["a"]
    assert front(results, "latency") == []
    assert [one.key for one in within(results, 2)] == ["b", "c"]
    assert [one.key for one in within(results, 0)] == ["a", "b", "c"]  # d failed
    assert within(results[3:], 0) == []


def test_members_over_the_limit_on_latency_have_no_offspring(planned: Plan, members: Sequence[SupernetMember]) -> None:
    results = {
        one.key: InheritedResult(one.key, one.macs, one.params, latency, 0.5, index, one.values)
        for index, (one, latency) in enumerate(zip(members, (0.2, 0.01, None, math.inf), strict=False))
    }
    search = planned.search.model_copy(update={"budget": Budget.model_validate({"macs": "3M", "latency": LATENCY})})
    assert [one.key for one in choose_parents(search, members, results)] == [one.key for one in members[1:3]]
    too_slow = {key: replace(one, latency=0.2) for key, one in results.items()}
    assert len(choose_parents(search, members, too_slow)) == 4  # something has to be changed
    assert len(choose_parents(planned.search, members, results)) == 4


def test_a_latency_that_is_not_known_is_the_largest(planned: Plan) -> None:
    results = [InheritedResult(key, 1, 1, latency, 0.5, loss) for key, latency, loss in LATENCIES]
    search = planned.search.model_copy(update={"objectives": ("accuracy", "latency")})
    assert [one.key for one in order_proposals(search, results)] == ["a", "c", "b"]
    assert [one.key for one in order_proposals(planned.search, results)] == ["a", "b", "c"]


def test_half_of_the_random_members_have_equal_macs(planned: Plan, members: Sequence[SupernetMember]) -> None:
    chosen = choose_random(members, with_supernet(planned, validity=20).search)
    assert len({one.key for one in chosen}) == 20
    assert chosen == choose_random(members, with_supernet(planned, validity=20).search)
    later = [one.macs for one in chosen[10:]]
    assert min(later) >= 0.95 * max(later)


def test_the_best_of_each_budget_and_random_members_are_confirmed(planned: Plan) -> None:
    results = [InheritedResult(str(loss), 3_000_000 - loss * 500_000, 1, None, 0.5, loss) for loss in range(6)]
    alone = [StandaloneResult(key, 1, 1, 1, 1, 0.0, 0.5, 0.1, 0.5, 1.0) for key in ("4", "0", "5", "2")]
    chosen = choose_confirmations(planned.search, results, alone)
    assert [(one.key, one.why, one.budget) for one in chosen] == [
        ("0", "best", 3_000_000),
        ("1", "best", 3_000_000),
        ("3", "best", 1_800_000),
        ("4", "random", 0),
        ("5", "random", 0),
    ]


# What decides


def alone_results(
    members: Sequence[SupernetMember], quality: Callable[[int, SupernetMember], float]
) -> list[StandaloneResult]:
    """Return results of trainings alone by `quality`; inherited ones are a little worse, in the same order."""
    found = []
    for index, one in enumerate(members):
        value, backbone = quality(index, one), one.model.backbone
        shape = (backbone.num_blocks, backbone.embed_dim)
        found.append(
            StandaloneResult(one.key, one.macs, one.params, *shape, value + 0.1, 1 - value, value, 1.1 - value, 1.0)
        )
    return found


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_a_supernet_that_ranks_members_as_trainings_do_decides(
    planned: Plan, members: Sequence[SupernetMember], metric: str
) -> None:
    chosen = choose_random(members, with_supernet(planned, validity=24).search)
    results = alone_results(chosen, lambda index, _one: 0.1 + 0.7 * (index * 7 % 24) / 24)
    validity = measure_validity(results, [one.model for one in chosen], metric)
    assert validity is not None
    assert validity.inherited.tau is not None
    assert validity.inherited.tau.value == pytest.approx(1.0)
    verdict = decide(validity, None, "data", "tpe")
    assert verdict.decides
    assert not decide(validity, None, "imagenet", "tpe").decides
    assert not decide(validity, None, "data", "random").decides


@pytest.mark.parametrize("baseline", ["macs", "embed_dim"])
def test_a_supernet_that_ranks_no_better_than_a_baseline_decides_nothing(
    planned: Plan, members: Sequence[SupernetMember], baseline: str
) -> None:
    chosen = choose_random(members, with_supernet(planned, validity=24).search)
    size = {"macs": lambda one: one.macs / 1e6, "embed_dim": lambda one: one.model.backbone.embed_dim}[baseline]
    results = alone_results(chosen, lambda _index, one: 1 / size(one))
    verdict = decide(measure_validity(results, [one.model for one in chosen], "loss"), None, "data", "tpe")
    assert not verdict.decides
    assert baseline in verdict.reason


def test_a_baseline_of_the_opposite_sign_ranks_as_well(planned: Plan, members: Sequence[SupernetMember]) -> None:
    """The loss grows with the MACs, so the smallest members are the best: MACs say it too."""
    chosen = choose_random(members, with_supernet(planned, validity=24).search)
    results = alone_results(chosen, lambda _index, one: one.macs / 1e7)
    verdict = decide(measure_validity(results, [one.model for one in chosen], "loss"), None, "data", "tpe")
    assert not verdict.decides
    assert verdict.reason == "macs alone ranks members as well"
    assert "and macs alone -1.00" in verdict.sentence


def test_a_supernet_without_evidence_decides_nothing(members: Sequence[SupernetMember]) -> None:
    assert not decide(None, None, "data", "tpe").decides
    results = alone_results(members[:4], lambda index, _one: 0.1 * index)
    assert measure_validity(results, [one.model for one in members[:4]], "loss") is None
    failed = [replace(one, loss=math.nan) for one in alone_results(members[:8], lambda index, _one: 0.1 * index)]
    assert measure_validity(failed, [one.model for one in members[:8]], "loss") is None
    rng = random.Random(1)
    noise = [replace(one, inherited_loss=rng.random()) for one in alone_results(members[:24], lambda index, _: index)]
    assert not decide(measure_validity(noise, [one.model for one in members[:24]], "loss"), None, "data", "tpe").decides


def test_a_supernet_whose_training_fails_decides_nothing(
    planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise TrainingError("the loss is nan at step 1")

    monkeypatch.setattr(phase, "pool", lambda _planned: ())
    monkeypatch.setattr(phase, "SupernetTrainer", fail)
    stored: dict[str, Any] = {}
    store = SimpleNamespace(get_meta=stored.get, set_meta=stored.__setitem__, keep_meta=stored.__setitem__)
    evaluator = SimpleNamespace(device=torch.device("cpu"), data=None)
    given: Any = (planned, tmp_path, evaluator, store, lambda: None, lambda _progress: None, math.inf)
    phase.SupernetPhase(*given).run()
    sentence = "Supernet: it decided nothing: its training failed: the loss is nan at step 1."
    assert stored[SUPERNET_META] == {"decides": False, "sentence": sentence, "proposals": []}
    assert supernet_line(tmp_path, SupernetSpec(steps=3)) == sentence
    monkeypatch.undo()
    phase.SupernetPhase(*given).run()  # it is not trained again


def test_what_inheritance_was_worth() -> None:
    rows = [(key, start) for key in "abcd" for start in ("inherited", "fresh")]
    results = [
        ConfirmedResult(
            key,
            "best" if key in "ab" else "random",
            0,
            start,
            0,
            0.5,
            0.5 + 0.1 * (start == "inherited") + 0.01 * index,
            1.0,
        )  # type: ignore[arg-type]
        for index, (key, start) in enumerate(rows)
    ]
    worth = measure_worth(results, "accuracy")
    assert worth is not None
    assert worth.members == 4
    assert worth.start is not None
    assert worth.start.value == pytest.approx(0.09)
    assert worth.best is not None
    assert worth.best.value == pytest.approx(-0.04)
    assert measure_worth([one for one in results if one.start == "fresh"], "accuracy") is None


# Files and processes


class Stopped(Exception):  # noqa: N818  # not an error of the search
    """A kill: nothing is saved after it."""


def test_results_are_read_as_they_were_written(tmp_path: Path, members: Sequence[SupernetMember]) -> None:
    results = [
        InheritedResult(one.key, one.macs, one.params, None if index else 0.1 + 0.2, 1 / 3, math.pi, one.values)
        for index, one in enumerate(members[:3])
    ]
    write_results(tmp_path, InheritedResult, results)
    assert read_results(tmp_path, InheritedResult) == results
    confirmed = [ConfirmedResult("a", "best", 5, "fresh", 0, 1 / 3, 0.1, 2.0)]
    write_results(tmp_path, ConfirmedResult, confirmed)
    assert read_results(tmp_path, ConfirmedResult) == confirmed
    assert read_results(tmp_path, StandaloneResult) == []


class Instant:
    """A crew that needs no time, and stops before a number of results."""

    def __init__(self, stop_before: int = sys.maxsize) -> None:
        self.stop_before, self.done = stop_before, 0

    def perform(self, tasks: Sequence[Task], _check: Callable[[], None]) -> Iterator[tuple[int, Measured]]:
        for index, task in enumerate(tasks):
            self.done += 1
            if self.done == self.stop_before:
                raise Stopped
            yield index, Measured(loss_of(task.model), 0.5, 1.0)


def test_an_evaluation_that_is_interrupted_has_written_its_results(
    planned: Plan, members: Sequence[SupernetMember], tmp_path: Path
) -> None:
    seen: list[PhaseProgress] = []
    for folder, stop_before in (("a", sys.maxsize), ("b", 20), ("b", sys.maxsize)):
        steps = Steps(planned, tmp_path / folder, Instant(stop_before), lambda: None, seen.append)
        with contextlib.suppress(Stopped):
            steps.evaluate_members(members)
        expected = min(24, stop_before - 1)
        assert len(read_results(tmp_path / folder, InheritedResult)) == expected
    assert [one.total for one in seen] == [24] * (24 + 24)
    assert (tmp_path / "a" / FILES[0]).read_text() == (tmp_path / "b" / FILES[0]).read_text()


def test_results_are_written_during_a_generation(
    planned: Plan, members: Sequence[SupernetMember], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2tbuild.nas.supernet.steps.SAVE_EVERY", 0.0)
    written: list[int] = []
    Steps(
        planned,
        tmp_path,
        Instant(),
        lambda: None,
        lambda _progress: written.append(len(read_results(tmp_path, InheritedResult))),
    ).evaluate_members(members)
    assert written == list(range(1, 25))


def test_no_more_members_than_a_space_has_are_announced(planned: Plan, members: Sequence[SupernetMember]) -> None:
    assert count_evaluations(planned, members) == 24
    assert count_evaluations(with_supernet(planned, candidates=5_000), members[:30]) == 30
    assert len(members) < 5_000


def test_proposals_are_read_as_they_were_stored(planned: Plan, members: Sequence[SupernetMember]) -> None:
    chosen = [one.member for one in members[:5]]
    stored = json.loads(json.dumps(to_plain(chosen)))
    assert from_plain(stored, plan_again(planned).members) == tuple(chosen)


def plan_again(planned: Plan) -> Plan:
    return Plan(planned.search, planned.base, planned.space)


ECHO = """
import json, os, sys
for line in sys.stdin:
    depth = json.loads(line)["model"]["backbone"]["depth"]
    if not os.path.exists(sys.argv[1]):
        open(sys.argv[1], "w").close()
        print("out of memory", file=sys.stderr)
        sys.exit(1)
    if len(sys.argv) > 2:
        sys.exit(1)
    print(json.dumps({"loss": depth, "accuracy": 0.5, "seconds": 1.0}), flush=True)
"""


def test_processes_perform_tasks_and_one_that_dies_is_started_again(
    tmp_path: Path, members: Sequence[SupernetMember]
) -> None:
    tasks = [Task(one.model) for one in members[:6]]
    processes = Processes([sys.executable, "-c", ECHO, str(tmp_path / "died")], tmp_path, 2)
    found = dict(processes.perform(tasks, lambda: None))
    processes.close()
    assert found == {index: Measured(task.model.backbone.num_blocks, 0.5, 1.0) for index, task in enumerate(tasks)}
    assert (tmp_path / "died").exists()


def test_a_task_whose_process_always_dies_ends_the_search(tmp_path: Path, members: Sequence[SupernetMember]) -> None:
    processes = Processes([sys.executable, "-c", ECHO, str(tmp_path / "died"), "always"], tmp_path, 1)
    with pytest.raises(SearchError, match="out of memory"):
        list(processes.perform([Task(members[0].model)], lambda: None))


def test_a_process_that_starts_while_all_are_ended_is_ended_too(
    tmp_path: Path, members: Sequence[SupernetMember], monkeypatch: pytest.MonkeyPatch
) -> None:
    started, is_starting = list[subprocess.Popen[bytes]](), threading.Event()

    def start_slowly(*_args: object, **_options: object) -> subprocess.Popen[bytes]:
        is_starting.set()
        time.sleep(0.1)
        command = [sys.executable, "-c", "import time; time.sleep(100)"]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(crew, "start_process", start_slowly)
    processes = Processes([], tmp_path, 1)

    def perform() -> None:
        with pytest.raises(SearchError, match="were stopped"):
            list(processes.perform([Task(members[0].model)], lambda: None))

    thread = threading.Thread(target=perform)
    thread.start()
    is_starting.wait()
    processes.close()
    assert [one.poll() is not None for one in started] == [True]
    thread.join(10)
    assert not thread.is_alive()


# Latency


@pytest.mark.parametrize("count", [1, 5, MEASURED, 2 * MEASURED - 1, 1000])
def test_members_whose_latency_is_measured_are_spread_over_all(members: Sequence[SupernetMember], count: int) -> None:
    pool = (list(members) * 1000)[:count]
    chosen = spread(pool)
    assert len(chosen) == min(count, MEASURED)
    assert chosen[0] is pool[0]
    assert chosen[-1] is pool[-1]


# Whole searches


def run(folder: Path, *overrides: str, workers: int = 1, stop_at: tuple[str, int] | None = None) -> SearchResult:
    """Run the small search, and stop it at a number of results of a phase."""

    def report(progress: object) -> None:
        if isinstance(progress, PhaseProgress) and stop_at is not None and (progress.phase, progress.here) == stop_at:
            raise Stopped

    spec = tiny_search(folder, SUPERNET, SPACE, "search.trials=1", "search.zero_cost.names=[depth]", *overrides)
    return search(spec, folder / "run", on_progress=report, workers=workers)


def by_the_weights(evaluator: MemberEvaluator, task: Task, check: Callable[[], None]) -> Measured:
    """Measure without a forward pass or a training: the result depends on the weights that the supernet has."""
    check()
    weights = sum(float(one.detach().double().abs().sum()) for one in evaluator.supernet.tensors.values())
    return Measured(loss_of(task.model) + weights, 0.5, 1.0)


def without_seconds(path: Path) -> list[str]:
    rows = path.read_text().splitlines()
    return [row.rpartition(",")[0] for row in rows] if rows[0].endswith(",seconds") else rows


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trainer")
def test_a_search_that_was_killed_ends_with_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemberEvaluator, "perform", by_the_weights)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = run(tmp_path / "a")
    for stop_at in (("evaluation", 18), ("confirmation", 2)):
        with pytest.raises(Stopped):
            run(tmp_path / "b", stop_at=stop_at)
        assert len(read_results(tmp_path / "b" / "run" / "supernet", InheritedResult)) in (18, 24)
    broken = run(tmp_path / "b")
    for name in FILES:
        mine, other = (without_seconds(tmp_path / side / "run" / "supernet" / name) for side in "ab")
        assert mine == other
    reports = [json.loads((one.run / "supernet" / "report.json").read_text()) for one in (whole, broken)]
    assert all(one.pop("seconds").keys() == {"training", "evaluation", "validity", "confirmation"} for one in reports)
    assert reports[0] == reports[1]
    assert [one.key for one in whole.records] == [one.key for one in broken.records]
    assert len(read_results(whole.run / "supernet", InheritedResult)) == 24
    assert len(read_results(whole.run / "supernet", StandaloneResult)) == 8
    confirmed = read_results(whole.run / "supernet", ConfirmedResult)
    assert len(confirmed) == 2 * len({one.key for one in confirmed}) >= 8
    assert "Supernet: " in whole.verdict.sentence


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trainer")
def test_a_supernet_that_decides_proposes_its_best_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(_self: MemberEvaluator, task: Task, _check: Callable[[], None]) -> Measured:
        return Measured(loss_of(task.model), 0.5, 1.0)

    monkeypatch.setattr(MemberEvaluator, "perform", perform)
    found = run(tmp_path, "search.target=data", "search.trials=6", "search.supernet.validity=24")
    report = json.loads((found.run / "supernet" / "report.json").read_text())
    assert report["decides"], report["reason"]
    ranked = within(read_results(found.run / "supernet", InheritedResult), 0)
    base, drawn = found.base.key, [one.key for one in found.records if one.source is Source.SAMPLER]
    assert drawn == [one.key for one in ranked if one.key != base][: len(drawn)]
    assert len(drawn) == 3


@pytest.mark.slow
@pytest.mark.nightly
def test_several_processes_measure_what_one_does(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    results = [run(tmp_path / "a"), run(tmp_path / "b", workers=2)]
    for kind in (InheritedResult, StandaloneResult, ConfirmedResult):
        mine, other = (read_results(one.run / "supernet", kind) for one in results)
        assert [one.key for one in mine] == [one.key for one in other]
        assert [one.loss for one in mine] == pytest.approx([one.loss for one in other], rel=1e-4)
