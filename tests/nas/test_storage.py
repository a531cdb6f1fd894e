"""Storages on real SQLite and PostgreSQL: created by many at once, through an outage, without leaking passwords."""

import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from t2tbuild import search
from t2tbuild.errors import InputError
from t2tbuild.nas.plan import plan
from t2tbuild.nas.sampler import FeasibleSampler
from t2tbuild.nas.storage import RECORD, RetryingStorage, open_storage, retry_stale
from t2tbuild.nas.storage_url import VARIABLE, storage_url
from t2tbuild.nas.store import open_studies
from t2tbuild.spec import SearchSpec
from tests.nas.conftest import FakeTrainer, tiny_search
from tests.nas.postgresql import Server

pytestmark = pytest.mark.slow

Tiny = Callable[..., SearchSpec]

JOIN = """
import sys
from pathlib import Path
from t2tbuild.nas.plan import plan
from t2tbuild.nas.sampler import FeasibleSampler
from t2tbuild.nas.store import open_studies
from tests.nas.conftest import tiny_search
spec = tiny_search(Path(sys.argv[2]) / sys.argv[3])
planned = plan(spec)
open_studies(sys.argv[1], spec, planned, FeasibleSampler(spec.search, planned))
"""


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
        open_storage("postgresql+psycopg://me:hush-hush@127.0.0.1:1/none", tiny().search)
    assert "hush" not in str(message.value)
    if importlib.util.find_spec("pymysql") is None:
        with pytest.raises(InputError, match=r"pip install 't2tbuild\[mysql\]'"):
            open_storage("mysql+pymysql://host/db", tiny().search)


def join_together(url: str, folder: Path, processes: int) -> None:
    for index in range(processes):
        (folder / str(index)).mkdir()
    running = [
        subprocess.Popen([sys.executable, "-c", JOIN, url, str(folder), str(index)], stderr=subprocess.PIPE, text=True)
        for index in range(processes)
    ]
    for process in running:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_many_may_create_one_study_at_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/study.db"
    else:
        url = storage_url(request.getfixturevalue("postgresql").database("together"), tmp_path)
    join_together(url, tmp_path, 8 if kind == "sqlite" else 4)
    storage = RetryingStorage(url, heartbeat=60, retries=1)
    assert sorted(study.study_name for study in storage.get_all_studies()) == ["tiny", "tiny.references"]
    storage.close()


def test_another_space_of_the_same_name_is_refused_with_its_difference(tmp_path: Path, tiny: Tiny) -> None:
    def join(*overrides: str) -> None:
        spec = tiny(*overrides)
        planned = plan(spec)
        open_studies(f"sqlite:///{tmp_path}/s.db", spec, planned, FeasibleSampler(spec.search, planned)).storage.close()

    join()
    join("search.trials=99")
    with pytest.raises(InputError, match=r"(?s)another search named tiny.*-.*macs: 5M.*\+.*macs: 4M"):
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


def test_a_trial_has_a_heartbeat_from_its_first_instant(tmp_path: Path) -> None:
    """A trial that is killed before its objective begins becomes stale; it is queued again, then fails."""
    storage = RetryingStorage(f"sqlite:///{tmp_path}/s.db", heartbeat=1, retries=1)
    study = optuna.create_study(storage=storage)
    for _ in range(2):
        trial_id = study._pop_waiting_trial_id() or study._storage.create_new_trial(study._study_id)
        study._storage.set_trial_user_attr(trial_id, RECORD, {"state": "running", "key": "k"})
        retry_stale(study)
        assert study._storage.get_trial(trial_id).state.name == "RUNNING"
        time.sleep(3.2)
        retry_stale(study)
        assert study._storage.get_trial(trial_id).state.name == "FAIL"
    last = study.trials[-1]
    storage.close()
    assert (last.state.name, last.user_attrs[RECORD]["reason"]) == ("PRUNED", "its worker died 2 times")
    assert len(study.trials) == 3


def test_an_unreachable_storage_is_not_retried_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the error of the database is raised."""
    monkeypatch.setattr("t2tbuild.nas.storage.RETRY_SECONDS", 0.3)
    storage = RetryingStorage(f"sqlite:///{tmp_path}/s.db", heartbeat=60, retries=1)
    study = optuna.create_study(storage=storage)
    (tmp_path / "s.db").write_bytes(b"not a database, " * 1000)
    storage.engine.dispose()
    pauses: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: pauses.append(seconds) or sleep(seconds))
    with pytest.raises((StorageInternalError, SQLAlchemyError), match=r"database|malformed|commit"):
        storage.create_new_trial(study._study_id)
    assert len(pauses) > 1  # it was retried
    storage.close()


def test_the_search_spec_is_the_same_text_on_every_machine(tmp_path: Path) -> None:
    """Two checkouts in different folders join the same search: the base is compared, not its path."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    url = f"sqlite:///{tmp_path}/s.db"
    for folder in ("a", "b"):
        spec = tiny_search(tmp_path / folder)
        planned = plan(spec)
        open_studies(url, spec, planned, FeasibleSampler(spec.search, planned)).storage.close()
