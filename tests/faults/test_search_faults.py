"""Faults of a search's database and folder: what status, repair, resume and export do after each."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from t2tbuild import search
from t2tbuild.errors import InputError
from t2tbuild.nas.existing_run import reopen_store
from t2tbuild.nas.store import database, retry
from t2tbuild.nas.store.lock import LOCK_ID, search_lock
from t2tbuild.nas.store.retry import retried
from t2tbuild.nas.store.url import storage_url
from tests.faults.attack import Attack
from tests.faults.damages import (
    be_a_folder,
    break_json,
    break_record,
    delete,
    empty,
    flip_header,
    forge_key,
    garbage,
    truncate,
)
from tests.faults.invariants import ROUNDS
from tests.nas.conftest import FakeTrainer, tiny_search
from tests.nas.postgresql import Server

pytestmark = pytest.mark.slow


def gone() -> OperationalError:
    reason = "consuming input failed: server closed the connection"
    return OperationalError("COMMIT", {}, psycopg.OperationalError(reason))


def failing(times: int, seconds: float = 0.0) -> tuple[Callable[[], str], list[float]]:
    """A function whose first calls fail after some seconds, as where a commit's answer is lost; and its calls."""
    calls: list[float] = []

    def function() -> str:
        calls.append(time.monotonic())
        if len(calls) <= times:
            time.sleep(seconds)
            raise gone()
        return "done"

    return function, calls


def test_a_call_that_fails_after_minutes_of_work_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the work is no time of an outage: a draw scores candidates for minutes before it commits."""
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.2)
    function, calls = failing(1, seconds=0.4)
    assert retried(function)() == "done"
    assert len(calls) == 2


def test_json_of_anything_but_the_storage_is_not_called_a_damaged_storage() -> None:
    with pytest.raises(json.JSONDecodeError):
        retried(json.loads)("x")
    with pytest.raises(InputError, match="a value in the storage is damaged"), database.damaged_values():
        json.loads("x")


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_was_set_changes_no_status(
    run: Path, attack: Attack, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    before = attack.run("search", "status", run)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 86_400 * days)
    assert attack.run("search", "status", run) == before
    assert before.code == 0


def test_an_outage_ends_nested_calls_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.3)
    function, calls = failing(1000)
    outer: list[float] = []

    @retried
    def twice() -> str:
        outer.append(time.monotonic())
        return retried(function)()

    with pytest.raises(OperationalError):
        twice()
    assert len(calls) > 2
    assert len(outer) == 1


def test_the_lock_of_a_search_is_taken_again_after_an_outage(tmp_path: Path, postgresql: Server) -> None:
    """It is also taken where nothing around it repeats the call: for the evaluation on the test split."""
    url = storage_url(postgresql.database("lock"), tmp_path)
    engine, failed = sqlalchemy.create_engine(url), []

    def fail_once(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "pg_try_advisory_lock" in statement and not failed:
            failed.append(statement)
            raise gone()

    event.listen(engine, "before_cursor_execute", fail_once)
    other = sqlalchemy.create_engine(url)
    with search_lock(url, engine), other.connect() as connection:
        held = connection.execute(sqlalchemy.text(f"SELECT pg_try_advisory_lock({LOCK_ID})")).scalar()
    assert failed
    assert held is False
    for one in (engine, other):
        one.dispose()


def processes_of(server: Server) -> list[int]:
    """The processes of a server: the first line of its file is its own number."""
    main = int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    children = subprocess.run(["pgrep", "-P", str(main)], capture_output=True, text=True, check=False)
    return [main, *map(int, children.stdout.split())]


def freeze(server: Server, seconds: float) -> None:
    """Stop all processes of a server, and let them go on after some seconds."""
    stopped = processes_of(server)
    for process in stopped:
        os.kill(process, signal.SIGSTOP)

    def go_on() -> None:
        for process in stopped:
            os.kill(process, signal.SIGCONT)

    threading.Timer(seconds, go_on).start()


def stop(server: Server, seconds: float) -> None:
    server.stop()
    threading.Timer(seconds, server.start).start()


@pytest.mark.nightly
@pytest.mark.parametrize("fault", [freeze, stop])
@pytest.mark.parametrize("at", [3, 7])
def test_a_database_that_hangs_or_is_stopped_loses_nothing(
    tmp_path: Path,
    fake_trainer: type[FakeTrainer],
    postgresql: Server,
    fault: Callable[[Server, float], None],
    at: int,
) -> None:
    url = postgresql.database(f"{fault.__name__}{at}")
    train, trainings = fake_trainer.train, []

    def train_and_break(self: FakeTrainer, *arguments: object) -> object:
        trainings.append(self.seed)
        if len(trainings) == at:
            fault(postgresql, 3.0)
        return train(self, *arguments)  # type: ignore[arg-type]

    fake_trainer.train = train_and_break  # type: ignore[assignment,method-assign]
    result = search(tiny_search(tmp_path, "search.trials=6"), tmp_path / "run", storage=url)
    assert [record.state.trained for record in result.records] == [True] * 6
    assert len(trainings) == len(result.records) + len(result.reference_runs)
    _, _, opened = reopen_store(tmp_path / "run", url)
    with opened as store:
        assert not store.snapshot().running


def test_a_database_that_stays_away_ends_a_search_with_the_command_that_continues_it(
    tmp_path: Path, fake_trainer: type[FakeTrainer], postgresql: Server, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.3)
    url, train, trainings = postgresql.database("away"), fake_trainer.train, []

    def train_and_stop(self: FakeTrainer, *arguments: object) -> object:
        trainings.append(self.seed)
        if len(trainings) == 3:
            postgresql.stop()
        return train(self, *arguments)  # type: ignore[arg-type]

    fake_trainer.train = train_and_stop  # type: ignore[assignment,method-assign]
    tiny_search(tmp_path)
    given = ["--storage", url, "--workers", "1"]
    try:
        spec = [tmp_path / "tiny.yaml", "search.heartbeat=1"]  # this process lives, so only silence ends its claim
        ended = attack.run("search", *spec, "--out", tmp_path / "run", *given)
        refused = attack.refuse("search", "resume", tmp_path / "run", *given)
    finally:
        postgresql.start()
    assert ended.code == 1, ended.text
    assert f"continue with: t2tbuild search resume {tmp_path / 'run'}" in ended.err.replace("\n", " ")
    assert "cannot be opened" in refused.err
    resumed = attack.run("search", "resume", tmp_path / "run", *given)
    assert resumed.code == 0, resumed.text


# Each damage, what every command says of it, and what `repair` says where that differs.
MALFORMED = "cannot be opened: database disk image is malformed; t2tbuild search repair RUN"
RECORD, VALUE = "the record of trial 0 in the storage is damaged", "a value in the storage is damaged"
DAMAGES = [(truncate, MALFORMED, "not a single study can be read"), (break_json, VALUE, VALUE)]
DAMAGES += [(forge_key, f"{RECORD} (the key '../../../victim/", RECORD)]
MORE_DAMAGES = [
    (empty, "has no search named tiny", "has no search named tiny"),
    (garbage, "cannot be opened: file is not a database", "not a single study can be read"),
    (flip_header, MALFORMED, "not a single study can be read"),
    (be_a_folder, "cannot be opened: unable to open database file", "no such database"),
    (break_record, f"{RECORD} ('rungs')", RECORD),
    (delete, "holds no study.db; name the storage", "holds no study.db"),
]


@pytest.mark.usefixtures("fake_trainer")
@pytest.mark.parametrize(
    ("damage", "said", "of_repair"),
    [*DAMAGES, *(pytest.param(*one, marks=pytest.mark.nightly) for one in MORE_DAMAGES)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_command_answers_for_a_damaged_database(
    run: Path,
    attack: Attack,
    damage: Callable[[Path], None],
    said: str,
    of_repair: str,
    record_property: Callable[..., None],
) -> None:
    """Each ends with one message, and the victim outside is there. An empty database is one without a search yet."""
    victim = run.parent / "victim"
    victim.mkdir()
    damage(run / "study.db")
    commands = ("status", "export", "repair", "status", "resume")
    record_property(ROUNDS, len(commands))
    for command in commands:
        if command == "resume" and damage is empty:
            assert attack.run("search", command, run, "--workers", "1").code == 0
            continue
        more = ["--workers", "1"] if command == "resume" else []
        ended = attack.refuse("search", command, run, *more)
        assert (of_repair if command == "repair" else said) in ended.err
    assert victim.is_dir()
    assert sorted(path.name for path in run.parent.iterdir()) == ["run", "victim"]
