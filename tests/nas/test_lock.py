"""The lock of a search, held by real processes on a file and on a PostgreSQL server."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import event

from t2tbuild.nas.store import lock
from t2tbuild.nas.store.lock import search_lock
from t2tbuild.nas.store.url import storage_url
from tests.command import FORKS

pytestmark = pytest.mark.slow

SERVERS = ["sqlite", "postgresql"]


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    return storage_url(request.getfixturevalue("postgresql").database(f"lock{time.time_ns()}"), tmp_path)


def hold(url: str, seconds: float, limit: float, log: Path) -> None:
    """Hold the lock in this process for some seconds, and write when it was taken and left."""
    lock.LOCK_SECONDS = limit
    with search_lock(url):
        taken = time.monotonic()
        time.sleep(seconds)
        left = time.monotonic()
    log.write_text(f"{taken} {left}")


@pytest.fixture
def start() -> Iterator[Callable[..., object]]:
    running = []

    def start(*arguments: object) -> object:
        process = FORKS.Process(target=hold, args=arguments)
        process.start()
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.join()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_long_queue_is_no_holder_that_hangs(url: str, tmp_path: Path, start: Callable[..., object]) -> None:
    """The last of six waits for longer than LOCK_SECONDS, while each before it leaves the lock in time."""
    logs = [tmp_path / f"{number}.log" for number in range(6)]
    processes = [start(url, 0.3, 0.8, log) for log in logs]
    for process in processes:
        process.join(60)  # type: ignore[attr-defined]
    times = sorted(tuple(map(float, log.read_text().split())) for log in logs)
    assert times[-1][1] - times[0][0] > 0.8
    for (_, left), (taken, _) in itertools.pairwise(times):
        assert taken >= left


@pytest.mark.parametrize("kind", SERVERS)
def test_a_holder_that_hangs_stops_nobody(
    url: str, tmp_path: Path, start: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.5)
    start(url, 60.0, 0.5, tmp_path / "never")
    _wait_until_held(url, tmp_path)
    before = time.monotonic()
    with search_lock(url):
        assert 0.5 <= time.monotonic() - before < 30
    assert not (tmp_path / "never").exists()


def _wait_until_held(url: str, folder: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if url.startswith("sqlite"):
            if (folder / "study.db.lock").exists() and (folder / "study.db.lock").read_text():
                return
        else:
            engine = sqlalchemy.create_engine(url)
            with engine.connect() as connection:
                holder = connection.execute(sqlalchemy.text(lock.SERVERS["postgresql"].holder), {"lock": lock.LOCK_ID})
                held = holder.scalar() is not None
            engine.dispose()
            if held:
                return
        time.sleep(0.05)
    raise AssertionError("the lock was not taken")


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_server_that_limits_statements_does_not_end_the_wait(
    url: str, tmp_path: Path, start: Callable[..., object]
) -> None:
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        name = engine.url.database
        connection.execute(sqlalchemy.text(f"ALTER DATABASE \"{name}\" SET statement_timeout = '200ms'"))
    engine.dispose()
    start(url, 2.0, 60.0, tmp_path / "log")
    _wait_until_held(url, tmp_path)
    with search_lock(url, engine, patient=False), engine.connect() as connection:
        limit = connection.execute(sqlalchemy.text("SHOW statement_timeout")).scalar()
    engine.dispose()
    assert limit == "200ms"


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_process_that_waits_asks_nothing(url: str, tmp_path: Path, start: Callable[..., object]) -> None:
    """A thousand workers that asked twenty times a second would leave the server no time for the one that draws."""
    engine, asked = sqlalchemy.create_engine(url), []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    start(url, 5.0, 60.0, tmp_path / "log")
    _wait_until_held(url, tmp_path)
    before = time.monotonic()
    with search_lock(url, engine):
        waited = len(asked)
    engine.dispose()
    assert time.monotonic() - before > 0.5  # not the whole time of the holder: it may have begun earlier
    assert waited == 4, asked
