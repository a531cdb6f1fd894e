"""Faults of a search's processes: candidates that end or block them, SIGKILL of all at once, a clock that jumps."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from t2tbuild import search
from t2tbuild.nas import supervisor
from t2tbuild.nas.existing_run import reopen_store
from t2tbuild.nas.record import Outcome, Record, State
from t2tbuild.nas.store.stale_trainings import StaleTrainings
from tests.command import Running, run_t2tbuild, start_python, start_t2tbuild
from tests.database_file import open_database_file
from tests.faults import evaluators, search_commands
from tests.faults.attack import Attack
from tests.faults.invariants import ROUNDS
from tests.faults.search_commands import ForkedWorker, command, require_no_process, require_whole, resume
from tests.nas.conftest import FakeTrainer, tiny_search

pytestmark = pytest.mark.slow

REAL = pytest.mark.nightly  # worker processes that load torch, for ten seconds each
SECONDS = 300


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a search, whose faults are on. A search in the process of this test that hangs fails the test."""
    monkeypatch.setenv(evaluators.FOLDER, str(tmp_path))
    (tmp_path / "fault").touch()

    def too_slow(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(SECONDS)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ForkedWorker]]:
    """The workers of a search in this process, which are forked and so start at once. None is left at the end."""
    started = search_commands.fork_workers(monkeypatch)
    yield started
    left = [worker for worker in started if worker.poll() is None]
    for worker in left:
        worker.kill()
    assert not left


def victim_of(run: Path) -> Record:
    """The record of the candidate to which the fault happened."""
    key = (run.parent / "victim").read_text()
    (found,) = [record for record in search_commands.records_of(run)[0] if record.key == key]
    return found


def require_victim_failed(run: Path, out: str, deaths: int) -> None:
    """Check that the victim has failed after its deaths, and that every other training was evaluated once."""
    report = json.loads(out)
    assert (report["outcome"], report["counts"]["failed"]) == ("complete", 1)
    victim = victim_of(run)
    assert (victim.state, victim.reason) == (State.FAILED, f"its worker died {deaths} times")
    require_whole(run, failed=1)
    calls = search_commands.calls(run.parent)
    of_victim = [count for (key, *_), count in calls.items() if key == victim.key]
    assert of_victim == [deaths]
    assert sum(calls.values()) - deaths == len(calls) - 1


def test_a_candidate_that_ends_its_process_each_time_has_failed(
    folder: Path, attack: Attack, forked: list[ForkedWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies soon after its start, but in a training, has not failed to start."""
    monkeypatch.setattr(supervisor, "MAX_FAILED_STARTS", 1)
    ended = attack.run(*command(folder, "exits", "retries=1", workers=2))
    assert ended.code == 0, ended.text
    require_victim_failed(folder / "run", ended.out, deaths=2)
    assert len(forked) == 2 + 2


@REAL
@pytest.mark.parametrize("evaluator", ["exits", "is_killed"])
def test_a_candidate_that_ends_real_worker_processes_has_failed(folder: Path, evaluator: str) -> None:
    done = run_t2tbuild(*command(folder, evaluator, "retries=2", workers=2))
    assert done.returncode == 0, done.stderr
    require_victim_failed(folder / "run", done.stdout, deaths=3)
    require_no_process(folder / "run")


@pytest.mark.parametrize("evaluator", ["exhausts_memory", "exhausts_memory_of_python"])
def test_a_candidate_that_exhausts_the_memory_of_its_worker_has_failed(
    folder: Path, attack: Attack, forked: list[ForkedWorker], evaluator: str
) -> None:
    """Under a limit of the process, with real tensors. Its worker goes on under this limit."""
    ended = attack.run(*command(folder, evaluator, workers=2))
    assert ended.code == 0, ended.text
    report = json.loads(ended.out)
    assert (report["outcome"], report["counts"]["failed"]) == ("complete", 1)
    victim = victim_of(folder / "run")
    assert victim.state is State.FAILED
    assert victim.reason == "out of memory; a smaller batch_size or image_size may fit"
    require_whole(folder / "run", failed=1)
    assert set(search_commands.calls(folder).values()) == {1}
    process, taken = map(int, (folder / "taken").read_text().split())
    assert process in [worker.pid for worker in forked]
    assert taken >= 2
    assert [worker.poll() for worker in forked] == [0, 0]


def require_timeout(folder: Path, out: str) -> None:
    """Check that a search ended by its timeout while its victim hung, with the results of all others."""
    assert json.loads(out)["outcome"] == "timeout"
    victim = (folder / "victim").read_text()
    *_, opened = reopen_store(folder / "run", None)
    with opened as store:
        records = [*store.records(), *store.reference_runs()]
    kept = {(record.key, str(rung.steps)) for record in records for rung in record.rungs}
    assert kept == {(key, steps) for key, _, steps in search_commands.calls(folder) if key != victim}
    assert len(kept) >= 2


def require_it_completes(folder: Path, attack: Attack) -> None:
    """Check that a search continues to its end once its victim no longer hangs."""
    (folder / "fault").unlink()
    ended = attack.run(*resume(folder / "run"), "--timeout", "10m")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["outcome"] == "complete"
    require_whole(folder / "run")


def pass_an_hour(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let an hour pass for this process, not for the workers, once the victim hangs and nothing else is left to do."""
    now, has_passed = time.monotonic, threading.Event()

    def wait() -> None:
        before = None
        while not (folder / "victim").exists() or before != (before := (folder / "calls").stat().st_size):
            time.sleep(1.0)
        has_passed.set()

    patch.setattr(time, "monotonic", lambda: now() + 3600 * has_passed.is_set())
    threading.Thread(target=wait, daemon=True).start()


def test_a_candidate_that_blocks_its_process_is_ended_soon_after_the_timeout(
    folder: Path, attack: Attack, forked: list[ForkedWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No signal reaches Python in it, so it is killed; the other worker ends by itself."""
    pass_an_hour(folder, monkeypatch)
    ended = attack.run(*command(folder, "blocks", "timeout=50m", workers=2))
    assert ended.code == 0, ended.text
    require_timeout(folder, ended.out)
    assert sorted(worker.poll() or 0 for worker in forked) == [-signal.SIGKILL, 143]
    require_it_completes(folder, attack)


@REAL
@pytest.mark.parametrize("evaluator", ["blocks", "sleeps"])
def test_a_candidate_that_hangs_in_a_real_worker_process_is_ended(folder: Path, attack: Attack, evaluator: str) -> None:
    done = run_t2tbuild(*command(folder, evaluator, "timeout=60s", workers=2))
    assert done.returncode == 0, done.stderr
    require_timeout(folder, done.stdout)
    require_no_process(folder / "run")
    require_it_completes(folder, attack)


def wait_for_victim(process: Running, folder: Path) -> None:
    until = time.monotonic() + 60
    while not (folder / "victim").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.3)


def test_ctrl_c_twice_ends_a_search_whose_candidate_hangs_in_its_own_process(folder: Path, attack: Attack) -> None:
    """With one worker there is no other process, which could end it at the timeout."""
    process = start_t2tbuild(*command(folder, "sleeps"))
    wait_for_victim(process, folder)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert f"continue with:\nt2tbuild search resume {folder / 'run'}" in err
    search_commands.records_of(folder / "run")
    require_it_completes(folder, attack)


@REAL
def test_ctrl_c_twice_leaves_no_worker_that_hangs(folder: Path) -> None:
    """The second one comes while the command waits for its workers."""
    process = start_t2tbuild(*command(folder, "blocks", workers=2))
    wait_for_victim(process, folder)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    require_no_process(folder / "run")


IN_A_GROUP = "import os; os.setsid(); from t2tbuild.cli import main; main()"


def kill_all(process: Running) -> None:
    """SIGKILL the process group of a command, and those of its workers, at once."""
    process.send_signal(signal.SIGSTOP)
    groups = [process.pid, *search_commands.children_of(process.pid)]
    for group in groups:
        os.killpg(group, signal.SIGKILL)
    process.communicate()
    until = time.monotonic() + 10
    while any(map(search_commands.is_alive, groups)):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("workers", "rounds", "seconds"), [(1, 4, 0.6), pytest.param(2, 5, 4.0, marks=REAL)], ids=["alone", "workers"]
)
def test_sigkill_of_all_processes_at_once_loses_nothing(
    folder: Path,
    attack: Attack,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[..., None],
    workers: int,
    rounds: int,
    seconds: float,
) -> None:
    """Each round kills a search that the round before has left, at a random moment after its first evaluation."""
    monkeypatch.setenv(evaluators.PAUSE, str(seconds / 20))
    chance, trials = random.Random(0), 12
    arguments = command(folder, "evaluate", f"trials={trials}", "retries=100", workers=workers)
    killed = 0
    for _ in range(rounds):
        before = len((folder / "calls").read_bytes()) if (folder / "calls").exists() else 0
        process = start_python(IN_A_GROUP, *arguments)
        until = time.monotonic() + 60
        while not (folder / "calls").exists() or len((folder / "calls").read_bytes()) == before:
            if process.poll() is not None:
                break
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(chance.uniform(0, seconds))
        if process.poll() is not None:  # the rounds before have left little
            process.communicate()
            assert process.returncode == 0
            break
        kill_all(process)
        killed += 1
        require_no_process(folder / "run")
    assert killed > 1
    record_property(ROUNDS, killed)
    ended = attack.run(*resume(folder / "run"))
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["outcome"] == "complete"
    require_whole(folder / "run", trials=trials)


def test_a_clock_that_jumps_in_every_process_changes_nothing(
    folder: Path, attack: Attack, forked: list[ForkedWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By up to a day at each call, in the command and its workers; the timeout of ten minutes does not end them."""
    monkeypatch.setenv(search_commands.CLOCK, "1")
    monkeypatch.setattr(time, "time", search_commands.jumping(time.time))
    ended = attack.run(*command(folder, "evaluate", "timeout=10m", workers=2))
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["outcome"] == "complete"
    require_whole(folder / "run")
    assert set(search_commands.calls(folder).values()) == {1}
    assert len(forked) == 2


def shift_heartbeats(run: Path, days: int) -> None:
    """Set all heartbeats back, as where the clock of the database is set forward, or the other way."""
    with open_database_file(run / "study.db") as database:
        database.execute(f"update trial_heartbeats set heartbeat = datetime(heartbeat, '{days} days')")


def test_a_clock_of_the_database_that_is_set_takes_no_training_from_a_live_worker(
    folder: Path, fake_trainer: type[FakeTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker searches for stale trainings all the time. The clock of the process jumps, too."""
    monkeypatch.setattr(time, "time", search_commands.jumping(time.time))
    run, train, trainings, requeued = folder / "run", fake_trainer.train, list[int](), list[int]()
    requeue = StaleTrainings._requeue
    monkeypatch.setattr(
        StaleTrainings, "_requeue", lambda self, trial_id: requeued.append(trial_id) or requeue(self, trial_id)
    )

    def train_while_the_clock_is_set(self: FakeTrainer, *arguments: Any) -> Any:
        trainings.append(self.seed)
        if (days := {3: -1, 5: 1}.get(len(trainings))) is not None:
            *_, opened = reopen_store(run, None)
            with opened as other:
                time.sleep(0.5)  # between two heartbeats
                shift_heartbeats(run, days)
                until = time.monotonic() + 1.3
                while time.monotonic() < until:
                    assert other.stale.requeue() == 0
                    time.sleep(0.05)
        return train(self, *arguments)

    fake_trainer.train = train_while_the_clock_is_set  # type: ignore[method-assign]
    result = search(tiny_search(folder, "search.trials=6", "search.heartbeat=1s", "search.timeout=1h"), run)
    assert result.outcome is Outcome.COMPLETE
    assert len(trainings) == len(result.records) + len(result.reference_runs)
    assert not requeued
    require_whole(run)
