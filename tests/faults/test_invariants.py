"""The measurement of harm notices each kind of it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from t2tbuild import predict_cost, search
from tests.database_file import open_database_file
from tests.faults import invariants
from tests.faults.invariants import (
    MARK,
    ROUNDS,
    SECRET,
    Harm,
    count_rounds,
    list_processes,
    measure_harm,
    measure_search,
)
from tests.nas.conftest import FakeTrainer, tiny_search
from tests.nas.postgresql import Server


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("t2tbuild.nas.proxy_evaluator.ProxyTrainer", FakeTrainer)
        patch.setattr("t2tbuild.nas.evaluator.count_model", predict_cost)
        search(tiny_search(folder, "search.trials=3", "search.zero_cost.names=[]"), folder / "run")
    return folder / "run"


def test_harm_of_a_search(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The folder is not that of the test, whose own harm would be noticed."""
    run = shutil.copytree(complete, tmp_path_factory.mktemp("harmed") / "run")
    assert measure_search(run) == Harm(lost=0, duplicated=0, left_running=0)
    report = json.loads((run / "report.json").read_text())
    assert report["outcome"] == "complete"
    first, *_, last = report["candidates"]
    last |= {name: first[name] for name in ("key", "seed", "full", "rungs")}
    (run / "report.json").write_text(json.dumps(report))
    assert measure_search(run) == Harm(lost=0, duplicated=1, left_running=0)
    report["candidates"] = [one for one in report["candidates"] if one is not last]
    (run / "report.json").write_text(json.dumps(report))
    assert measure_search(run) == Harm(lost=1, duplicated=0, left_running=0)
    with open_database_file(run / "study.db") as database:
        database.execute("update trials set state = 'RUNNING' where trial_id = 1")
    assert measure_search(run) == Harm(lost=1, duplicated=0, left_running=1)
    report["outcome"] = "timeout"
    (run / "report.json").write_text(json.dumps(report))
    assert measure_search(run) == Harm(duplicated=0)


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trainer")
def test_harm_of_a_search_on_a_server(tmp_path_factory: pytest.TempPathFactory, postgresql: Server) -> None:
    folder, url, other = tmp_path_factory.mktemp("harmed"), postgresql.database("harmed"), postgresql.database("other")
    result = search(tiny_search(folder, "search.trials=3"), folder / "run", storage=url)
    assert result.records
    run = folder / "run"
    assert measure_search(run, [other]) == Harm(lost=0, duplicated=0)  # what was not measured is not 0
    assert measure_search(run, [other, url]) == Harm(lost=0, duplicated=0, left_running=0)
    with psycopg.connect(url) as connection:
        assert connection.execute("update trials set state = 'RUNNING' where trial_id = 1").rowcount == 1
    assert measure_search(run, [other, url]) == Harm(lost=0, duplicated=0, left_running=1)
    with psycopg.connect(url) as connection:  # so that this test leaves none
        connection.execute("update trials set state = 'COMPLETE' where trial_id = 1")


def test_what_was_not_measured_stays_so_in_a_sum() -> None:
    assert Harm(lost=0) + Harm(lost=2, secrets=0) == Harm(lost=2, secrets=0)
    assert not Harm() + Harm(lost=0)
    assert Harm(lost=0) + Harm(exit_codes=1)


def test_a_test_without_a_round_is_none() -> None:
    assert count_rounds({}) == 1
    assert count_rounds({ROUNDS: 0}) == 0
    assert count_rounds({ROUNDS: 12}) == 12


def test_harm_of_files_processes_and_exit_codes(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariants, "GRACE", 0.1)
    folder, before = tmp_path_factory.mktemp("harmed"), set(list_processes())
    assert measure_harm(folder, before, [0, 1, 2, 130, 143]) == Harm(processes=0, code_run=0, secrets=0, exit_codes=0)
    assert measure_harm(folder, before, []) == Harm(processes=0, code_run=0, secrets=0)
    (folder / MARK).touch()
    (folder / "log").write_text(f"postgresql://me:{SECRET}@host/db")
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    orphan = (
        f"setsid {sys.executable} -c 'import time; time.sleep(60)' {folder} &"  # it is no longer below this process
    )
    subprocess.run(["sh", "-c", orphan], check=True)
    found = measure_harm(folder, before, [0, -11])
    assert left.wait(10) == -9
    assert found == Harm(processes=2, code_run=1, secrets=1, exit_codes=1)
