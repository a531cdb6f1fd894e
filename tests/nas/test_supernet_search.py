"""The search on a supernet: its files and processes, and that a stop loses nothing."""

import contextlib
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from t2tbuild import search
from t2tbuild.errors import SearchError
from t2tbuild.nas import SearchResult
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.record import Source
from t2tbuild.nas.supernet import crew
from t2tbuild.nas.supernet.crew import Processes
from t2tbuild.nas.supernet.evaluation import Measured, MemberEvaluator, Task
from t2tbuild.nas.supernet.inherited import count_evaluations, within
from t2tbuild.nas.supernet.pool import SupernetMember
from t2tbuild.nas.supernet.progress import PhaseProgress
from t2tbuild.nas.supernet.proposals import from_plain, to_plain
from t2tbuild.nas.supernet.results import (
    ConfirmedResult,
    InheritedResult,
    StandaloneResult,
    read_results,
    write_results,
)
from t2tbuild.nas.supernet.steps import Steps
from tests.nas.conftest import SUPERNET, tiny_search
from tests.nas.supernets import loss_of, with_supernet

SPACE = """search.space={
  backbone.embed_dim: {choices: [64, 96]},
  backbone.depth: {low: 1, high: 8},
  backbone.mlp_ratio: {choices: [1, 2, 3, 4]},
}"""
FILES = ("members.csv", "standalone.csv", "confirmed.csv")


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
