"""The store on real SQLite and PostgreSQL: many processes, outages, lost answers, killed workers, hidden passwords."""

import importlib.util
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from t2tbuild import search
from t2tbuild.errors import InputError
from t2tbuild.nas.plan import plan
from t2tbuild.nas.record import Record, Rung, State
from t2tbuild.nas.reference_runs import plan_base_runs
from t2tbuild.nas.sampler import CandidateSampler
from t2tbuild.nas.store import database, retry
from t2tbuild.nas.store.database import open_database
from t2tbuild.nas.store.open import open_store
from t2tbuild.nas.store.process import current_process, has_ended
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.store.trial_reader import TrialReader
from t2tbuild.nas.store.trial_writer import TrialWriter
from t2tbuild.nas.store.trials import Claim, Kind, LostClaim, Values
from t2tbuild.nas.store.url import VARIABLE, storage_url
from t2tbuild.spec import SearchSpec
from tests.command import FORKS
from tests.faults.invariants import ROUNDS
from tests.nas.conftest import FakeTrainer, tiny_search
from tests.nas.postgresql import Server

pytestmark = pytest.mark.slow

Tiny = Callable[..., SearchSpec]


def open_tiny(url: str, spec: SearchSpec) -> Store:
    planned = plan(spec)
    return open_store(url, spec, planned, CandidateSampler(planned.search, planned))


def test_the_url_of_a_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage_url(None, tmp_path) == f"sqlite:///{tmp_path}/study.db"
    assert storage_url("postgres://me:hush@host/db", tmp_path) == "postgresql+psycopg://me:hush@host/db"
    assert storage_url("postgresql+psycopg2://host/db", tmp_path) == "postgresql+psycopg2://host/db"
    monkeypatch.setenv(VARIABLE, "mysql://host/db")
    assert storage_url(None, tmp_path) == "mysql+pymysql://host/db"
    (tmp_path / "study.db").touch()  # an existing study of the run has priority over the environment
    assert storage_url(None, tmp_path) == f"sqlite:///{tmp_path}/study.db"
    assert storage_url("mysql://host/db", tmp_path) == "mysql+pymysql://host/db"
    for strange in ("mongodb://me:hush@host/db", "redis://host", "study.db", "http//x"):
        with pytest.raises(InputError, match="one of sqlite://, postgresql://, mysql://") as message:
            storage_url(strange, tmp_path)
        assert "hush" not in str(message.value)


def test_an_unreachable_storage_is_reported_without_its_password(tiny: Tiny) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(InputError, match="cannot be opened") as message:
        open_database("postgresql+psycopg://me:hush-hush@127.0.0.1:1/none", tiny().search)
    assert "hush" not in str(message.value)
    if importlib.util.find_spec("pymysql") is None:
        with pytest.raises(InputError, match=r"pip install 't2tbuild\[mysql\]'"):
            open_database("mysql+pymysql://host/db", tiny().search)


def join(url: str, folder: Path) -> None:
    open_tiny(url, tiny_search(folder))


def join_together(url: str, folder: Path, processes: int) -> None:
    for index in range(processes):
        (folder / str(index)).mkdir()
    running = [FORKS.Process(target=join, args=(url, folder / str(index))) for index in range(processes)]
    for process in running:
        process.start()
    for process in running:
        process.join(240)
        assert process.exitcode == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_many_may_create_one_study_at_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/study.db"
    else:
        url = storage_url(request.getfixturevalue("postgresql").database("together"), tmp_path)
    join_together(url, tmp_path, 4)
    storage = database.connect(url, tiny_search(tmp_path / "0").search)
    assert sorted(optuna.get_all_study_names(storage)) == ["tiny", "tiny.references"]
    database.close(storage)


def test_another_space_of_the_same_name_is_refused_with_its_difference(tmp_path: Path, tiny: Tiny) -> None:
    def join(*overrides: str) -> None:
        spec = tiny(*overrides)
        open_tiny(f"sqlite:///{tmp_path}/s.db", spec).__exit__()

    join()
    join("search.trials=99")
    with pytest.raises(InputError, match=r"(?s)another search named tiny.*-.*macs: 3M.*\+.*macs: 4M"):
        join("search.budget.macs=4M")


@pytest.mark.usefixtures("fake_trainer")
def test_two_machines_join_one_search(tmp_path: Path, tiny: Tiny, postgresql: Server) -> None:
    """Two run directories, one database: the second finds what the first trained, and no file has the password."""
    url = postgresql.database("shared")
    first = search(tiny("search.trials=3"), tmp_path / "one", storage=url)
    second = search(tiny("search.trials=6"), tmp_path / "two", storage=url)
    assert second.records[:3] == first.records
    assert len(second.records) == 6
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"hush-hush" in text for text in texts)


def test_a_database_outage_loses_nothing(
    tmp_path: Path, tiny: Tiny, fake_trainer: type[FakeTrainer], postgresql: Server
) -> None:
    """The server is killed in the middle of a search and comes back after a while."""
    url = postgresql.database("outage")
    train, trainings = fake_trainer.train, 0

    def slowly(self: FakeTrainer, *arguments: object) -> object:
        nonlocal trainings
        trainings += 1
        if trainings == 6:
            postgresql.stop()
            threading.Timer(4.0, postgresql.start).start()
        return train(self, *arguments)  # type: ignore[arg-type]

    fake_trainer.train = slowly  # type: ignore[assignment,method-assign]
    result = search(tiny("search.trials=8"), tmp_path / "run", storage=url)
    assert len(result.records) == 8
    assert all(record.state.trained for record in result.records)


@pytest.fixture
def store(tmp_path: Path, tiny: Tiny) -> Iterator[Store]:
    """A store on SQLite with the two reference runs of the base, of trials that become stale after two seconds."""
    spec = tiny("search.heartbeat=1s", "search.retries=1")
    with open_tiny(f"sqlite:///{tmp_path}/s.db", spec) as opened:
        opened.add_references(plan_base_runs(spec.search.model_copy(update={"target": "data"}), plan(spec).base))
        yield opened


def trials(store: Store, kind: Kind) -> list[optuna.trial.FrozenTrial]:
    return store._studies[kind].get_trials(deepcopy=False)


def finish(store: Store, claim: Claim) -> Record:
    """Finish a training as completed, with two rungs."""
    rungs = (Rung(1, 0.5, 1.5, 1.0), Rung(2, 0.6, 1.0, 1.0))
    store.save(claim, replace(claim.record, rungs=rungs[:1]))
    record = replace(claim.record, rungs=rungs, state=State.COMPLETED)
    store.finish(claim, record, Values([-0.1], {1: -0.4, 2: -0.1, 3: math.nan}, {"macs": -7.0}))
    return record


def test_a_training_is_claimed_once_saved_at_every_rung_and_finished(store: Store) -> None:
    first, second = store.claim(Kind.REFERENCE, "a"), store.claim(Kind.REFERENCE, "b")
    assert first is not None
    assert second is not None
    assert store.claim(Kind.REFERENCE, "c") is None
    assert store.claim(Kind.CANDIDATE, "c") is None
    assert [claim.record.seed for claim in (first, second)] == [0, 1]
    record = finish(store, first)
    assert store.reference_runs()[0] == record
    assert store.snapshot().running == 1
    done, running = trials(store, Kind.REFERENCE)
    assert (done.state.name, running.state.name) == ("COMPLETE", "RUNNING")
    assert (done.intermediate_values, done.constraints) == ({1: -0.4, 2: -0.1}, {"macs": -7.0})


@pytest.mark.parametrize(
    ("state", "expected"),
    [(State.COMPLETED, "COMPLETE"), (State.PRUNED, "PRUNED"), (State.INFEASIBLE, "PRUNED"), (State.FAILED, "FAIL")],
)
def test_the_states_of_trials_are_those_of_optuna(store: Store, state: State, expected: str) -> None:
    claim = store.claim(Kind.REFERENCE, "a")
    assert claim is not None
    values = Values([1.0]) if state is State.COMPLETED else Values()
    store.finish(claim, replace(claim.record, state=state, reason="why"), values)
    assert trials(store, Kind.REFERENCE)[0].state.name == expected
    assert store.reference_runs()[0].state is state


def test_an_interrupted_training_is_queued_again_in_its_place(store: Store) -> None:
    claim = store.claim(Kind.REFERENCE, "a")
    assert claim is not None
    store.save(claim, replace(claim.record, rungs=(Rung(1, 0.5, 1.5, 1.0),)))
    store.release(claim)
    again = store.claim(Kind.REFERENCE, "b")
    assert again is not None
    assert (again.record.seed, again.record.steps, again.record.worker) == (0, 1, "b")
    assert len(trials(store, Kind.REFERENCE)) == 2


def test_a_worker_that_lost_its_claim_writes_nothing(store: Store) -> None:
    """It was silent for so long that its training was queued again and finished by another worker."""
    claim = store.claim(Kind.REFERENCE, "a")
    assert claim is not None
    store.release(claim)
    with pytest.raises(LostClaim):
        store.save(claim, claim.record)
    other = store.claim(Kind.REFERENCE, "b")
    assert other is not None
    record = finish(store, other)
    with pytest.raises(LostClaim):
        store.finish(claim, replace(claim.record, state=State.FAILED), Values())
    store.release(claim)
    assert store.reference_runs()[0] == record
    store.finish(other, record, Values([-0.1]))  # its answer was lost, so the worker calls again


def test_the_training_of_a_killed_worker_is_queued_again_at_once(store: Store, tmp_path: Path) -> None:
    """On the same machine nobody waits for its heartbeat. After one retry it has failed."""
    for deaths in (1, 2):
        with claimed_elsewhere(store, tmp_path) as process:
            assert store.stale.requeue() == 0
            process.kill()
            process.join()
            assert store.stale.requeue() == 1
        first = trials(store, Kind.REFERENCE)[0]
        assert (first.state.name, first.user_attrs["deaths"]) == ({1: "WAITING", 2: "FAIL"}[deaths], deaths)
    record = store.reference_runs()[0]
    assert (record.state, record.reason) == (State.FAILED, "its worker died 2 times")


@contextmanager
def claimed_elsewhere(store: Store, folder: Path) -> Iterator[BaseProcess]:
    """Another process that has claimed the first reference run, and sends no heartbeat."""
    ours, theirs = FORKS.Pipe()
    process = FORKS.Process(target=claim_and_wait, args=(store.url, folder, theirs))
    process.start()
    try:
        assert ours.recv() == 0
        yield process
    finally:
        process.kill()
        process.join()


def claim_and_wait(url: str, folder: Path, connection: Connection) -> None:
    """Claim the first reference run, send its seed, and send no heartbeat."""
    store = open_tiny(url, tiny_search(folder, "search.heartbeat=1s", "search.retries=1"))
    claim = store.claim(Kind.REFERENCE, "other")
    connection.send(claim and claim.record.seed)
    time.sleep(600)


def test_a_silent_worker_that_may_be_alive_is_given_one_more_heartbeat(store: Store, tmp_path: Path) -> None:
    """After an outage of the database every heartbeat is late, so one look is not enough."""
    with claimed_elsewhere(store, tmp_path) as process:
        os.kill(process.pid or 0, signal.SIGSTOP)
        time.sleep(3.2)
        assert len(store.stale.find()) == 1
        assert store.stale.requeue() == 0
        time.sleep(0.5)
        assert store.stale.requeue() == 0
        time.sleep(0.6)
        assert store.stale.requeue() == 1
        os.kill(process.pid or 0, signal.SIGCONT)
    assert store.stale.requeue(at_once=True) == 0


def test_the_end_of_a_process_is_seen() -> None:
    code = "import json; from t2tbuild.nas.store.process import current_process; print(json.dumps(current_process()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    host, machine, pid, started = eval(done.stdout)
    assert has_ended([host, machine, pid, started])
    own = current_process()
    assert not has_ended(own)
    assert has_ended([*own[:3], 1]), "another process has its number now"
    assert not has_ended(["elsewhere", *own[1:3], 1])
    assert not has_ended([own[0], "another container", os.getpid(), 1])
    assert not has_ended(None)


class Fault:
    """Raises an error at one statement or commit of a database: before it, or after it so that its answer is lost."""

    def __init__(self, at: int, *, lost_answer: bool) -> None:
        self.at, self.lost_answer, self.count = at, lost_answer, 0

    def watch(self, engine: Any) -> None:
        commit = engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            if self.lost_answer:
                commit(connection)
                self.tick()
            else:
                self.tick()
                commit(connection)

        engine.dialect.do_commit = do_commit
        if not self.lost_answer:
            event.listen(engine, "before_cursor_execute", lambda *_: self.tick())

    def tick(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise OperationalError("a statement", {}, sqlite3.OperationalError("database is locked"))


def story(folder: Path, at: int, *, lost_answer: bool) -> tuple[int, object]:
    """Use every method of a store with a fault, and return how many could fail and what is left in the store."""
    folder.mkdir()
    spec = tiny_search(folder, "search.heartbeat=60s", "search.target=data", "search.random_fraction=0")
    planned, fault = plan(spec), Fault(at, lost_answer=lost_answer)
    sampler = CandidateSampler(planned.search, planned)
    connect = database.connect

    def connect_with_fault(*arguments: Any) -> Any:
        storage = connect(*arguments)
        fault.watch(storage.engine)
        return storage

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "connect", connect_with_fault)
        with open_store(f"sqlite:///{folder}/s.db", spec, planned, sampler) as store:
            store.add_references(plan_base_runs(planned.search, planned.base))
            for _ in range(2):
                claim = store.draw_candidate(sampler, "a")
                assert claim is not None
                finish(store, claim)
            store.set_meta("seconds", 1.5)
            while (claim := store.claim(Kind.REFERENCE, "a")) is not None:
                finish(store, claim)
            for take in (lambda: store.draw_candidate(sampler, "a"), lambda: store.claim(Kind.CANDIDATE, "b")):
                claim = take()
                assert claim is not None
                store.release(claim)
            store.entries()
            count, fault.at = fault.count, 0
            left = Counter((trial.state.name, kind) for kind in Kind for trial in store._trials(kind))
            keys = Counter(record.key for record in store.records())
            return count, (left, keys, store.get_meta("seconds"))


@pytest.mark.parametrize("lost_answer", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_a_fault_at_any_call_changes_nothing(
    tmp_path: Path, lost_answer: bool, record_property: Callable[..., None]
) -> None:
    """Every call is repeated, and a claim whose answer was lost is found again."""
    count, (left, keys, seconds) = story(tmp_path / "0", 0, lost_answer=lost_answer)
    assert left == {("COMPLETE", Kind.REFERENCE): 2, ("COMPLETE", Kind.CANDIDATE): 2, ("WAITING", Kind.CANDIDATE): 1}
    release = count - (10 if lost_answer else 24)  # the last calls, which claim and release: at more places
    places = {*range(1, count + 1, max(1, count // 4)), *range(release, count + 1, 2 if lost_answer else 3)}
    record_property(ROUNDS, len(places))
    for at in sorted(places):
        _, found = story(tmp_path / str(at), at, lost_answer=lost_answer)
        assert found == (left, keys, seconds), at


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_trial_is_stored_as_optuna_stores_it(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """TrialWriter writes to Optuna's tables itself."""
    url = f"sqlite:///{tmp_path}/s.db"
    if kind == "postgresql":
        url = storage_url(request.getfixturevalue("postgresql").database("rows"), tmp_path)
    trial = optuna.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params={"a": 2, "b": "x", "c": 0.5},
        distributions={
            "a": optuna.distributions.IntDistribution(0, 4, step=2),
            "b": optuna.distributions.CategoricalDistribution(["w", "x"]),
            "c": optuna.distributions.FloatDistribution(0.1, 1.0),
        },
        user_attrs={"record": {"number": ""}},
        system_attrs={"note": [1]},
    )
    waiting = optuna.create_trial(state=optuna.trial.TrialState.WAITING, user_attrs={"record": {"number": ""}})
    storage = database.connect(url, tiny_search(tmp_path).search)
    try:
        ours, theirs = (optuna.create_study(storage=storage, study_name=name) for name in ("ours", "theirs"))
        writer = TrialWriter(storage)
        study_id = storage.get_study_id_from_name("ours")
        ids = []
        for number, one in enumerate((trial, waiting, waiting)):
            theirs.add_trial(one)
            ids.append(writer.add(study_id, one))
            assert ids[-1][1] == number
        storage.set_trial_state_values(theirs.get_trials()[1]._trial_id, optuna.trial.TrialState.RUNNING)
        assert writer.claim(ids[1][0], "me", [1]) == {"number": "", "worker": "me"}
        assert writer.claim(ids[1][0], "other", [2]) is None
        first, second, third = ours.get_trials()
        assert second.user_attrs == {"record": {"number": "", "worker": "me"}, "process": [1]}
        assert writer.read(second._trial_id) == (second.state, second.user_attrs)
        second.user_attrs = waiting.user_attrs
        for one, other in zip((first, second, third), theirs.get_trials(), strict=True):
            assert (one.datetime_start is None) == (other.datetime_start is None)
            if one.datetime_start is not None and other.datetime_start is not None:
                assert abs((one.datetime_start - other.datetime_start).total_seconds()) < 60
            same = vars(one) | {"_trial_id": other._trial_id, "_datetime_start": other.datetime_start}
            assert same == vars(other)
        assert TrialReader(storage, study_id).find_silent(60) == set(storage._get_stale_trial_ids(study_id)) == set()
        for trial_id, _ in ids[:2]:
            storage.record_heartbeat(trial_id)
        with storage.engine.connect() as connection:
            beats = connection.execute(text("SELECT trial_id, heartbeat FROM trial_heartbeats ORDER BY trial_id"))
            assert [trial_id for trial_id, _ in beats] == [trial_id for trial_id, _ in ids[:2]]
    finally:
        database.close(storage)


def test_an_unreachable_database_is_not_retried_forever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.3)
    calls = 0

    def fail(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise OperationalError("a statement", {}, sqlite3.OperationalError("database is locked"))

    event.listen(store.storage.engine, "before_cursor_execute", fail)
    with pytest.raises((optuna.exceptions.StorageInternalError, OperationalError)):
        store.set_meta("a", 1)
    assert calls > 1


def test_a_broken_database_is_not_retried(store: Store, tmp_path: Path) -> None:
    store.storage.engine.dispose()
    (tmp_path / "s.db").write_bytes(b"not a database, " * 1000)
    started = time.monotonic()
    with pytest.raises(Exception, match=r"database|malformed|commit"):
        store.set_meta("a", 1)
    assert time.monotonic() - started < 10


def test_the_search_spec_is_the_same_text_on_every_machine(tmp_path: Path) -> None:
    """Two checkouts in different folders join the same search: the base is compared, not its path."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in ("a", "b"):
        open_tiny(f"sqlite:///{tmp_path}/s.db", tiny_search(tmp_path / folder)).__exit__()
