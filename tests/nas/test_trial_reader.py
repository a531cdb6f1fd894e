"""TrialReader reads from Optuna's tables what RDBStorage reads."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event, select

from t2tbuild.errors import InputError
from t2tbuild.nas.store import database
from t2tbuild.nas.store.tables import HEARTBEATS, USER_ATTRS
from t2tbuild.nas.store.trial_reader import TrialReader
from t2tbuild.nas.store.trials import Trial
from t2tbuild.nas.store.url import storage_url
from tests.nas.conftest import tiny_search

DISTRIBUTIONS = {"depth": IntDistribution(0, 4, step=2), "kind": CategoricalDistribution(["w", "x"])}


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RDBStorage]:
    url = f"sqlite:///{tmp_path}/s.db"
    if request.param == "postgresql":
        name = request.node.name.partition("[")[0][:60]  # of the test
        url = storage_url(request.getfixturevalue("postgresql").database(name), tmp_path)
    opened = database.connect(url, tiny_search(tmp_path).search)
    yield opened
    database.close(opened)


def trial(state: TrialState, record: str) -> FrozenTrial:
    return optuna.create_trial(
        state=state,
        value=0.5 if state is TrialState.COMPLETE else None,
        params={"depth": 2, "kind": "x"},
        distributions=DISTRIBUTIONS,
        user_attrs={"record": {"key": record}, "process": ["host", 1]},
        system_attrs={"note": [1]},
        intermediate_values={1: 0.25},
    )


def expected(found: FrozenTrial) -> Trial:
    times = (found.datetime_start, found.datetime_complete)
    return Trial(found._trial_id, found.number, found.state, *times, found.user_attrs)


def count_statements(storage: RDBStorage) -> list[str]:
    statements: list[str] = []
    event.listen(storage.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    return statements


def test_trials_are_those_of_rdbstorage_and_stay_so(storage: RDBStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="mine")
    optuna.create_study(storage=storage, study_name="other").add_trial(trial(TrialState.RUNNING, "not mine"))
    reader = TrialReader(storage, storage.get_study_id_from_name("mine"))
    assert reader.read() == []
    for number, state in enumerate(TrialState):
        study.add_trial(trial(state, str(number)))
    study.add_trial(optuna.create_trial(state=TrialState.WAITING))  # without attributes
    first = reader.read()
    assert first == [expected(one) for one in study.get_trials()]

    unchanged = [one for one in first if one.state is not TrialState.RUNNING]
    running = next(one for one in first if one.state is TrialState.RUNNING)
    storage.set_trial_user_attr(running.trial_id, "record", {"key": "saved"})
    second = reader.read()
    assert second == [expected(one) for one in study.get_trials()]
    assert second[running.number].attrs["record"] == {"key": "saved"}
    assert all(second[one.number] is one for one in unchanged)

    storage.set_trial_user_attr(running.trial_id, "record", {"key": "ended"})
    storage.set_trial_state_values(running.trial_id, TrialState.COMPLETE, [1.0])
    study.add_trial(trial(TrialState.PRUNED, "late"))
    third = reader.read()
    assert third == [expected(one) for one in study.get_trials()]
    assert third[running.number].attrs["record"] == {"key": "ended"}


def test_parameters_are_read_once_and_only_where_they_are_needed(storage: RDBStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="mine")
    reader = TrialReader(storage, storage.get_study_id_from_name("mine"))
    for number in range(3):
        study.add_trial(trial(TrialState.COMPLETE, str(number)))
    statements = count_statements(storage)
    lazy = reader.with_params(reader.read())
    assert not any("trial_params" in one for one in statements)
    assert list(lazy) == study.get_trials()
    study.add_trial(trial(TrialState.PRUNED, "new"))
    statements.clear()
    found = list(reader.with_params(reader.read()))
    assert sum("trial_params" in one for one in statements) == 1
    assert found == study.get_trials()


def test_a_running_trial_is_read_in_one_statement_without_its_parameters(storage: RDBStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="mine")
    reader = TrialReader(storage, storage.get_study_id_from_name("mine"))
    for number in range(20):
        study.add_trial(trial(TrialState.RUNNING, str(number)))
    statements = count_statements(storage)
    assert len(reader.read()) == 20
    assert [one.split()[0] for one in statements] == ["SELECT"]
    assert "trial_params" not in statements[0]


def test_a_silent_trial_is_what_optuna_says_is_stale(storage: RDBStorage) -> None:
    """Its heartbeat, by the clock of the database, is older than twice the interval."""
    study = optuna.create_study(storage=storage, study_name="mine")
    study_id = storage.get_study_id_from_name("mine")
    for number in range(3):
        study.add_trial(trial(TrialState.RUNNING, str(number)))
    silent, beating, _ = [one._trial_id for one in study.get_trials()]
    for trial_id in (silent, beating):
        storage.record_heartbeat(trial_id)
    assert storage.heartbeat_interval is not None
    reader, grace = TrialReader(storage, study_id), 2 * storage.heartbeat_interval
    assert reader.find_silent(grace) == set(storage._get_stale_trial_ids(study_id)) == set()
    with storage.engine.begin() as connection:
        earlier = HEARTBEATS.update().where(HEARTBEATS.c.trial_id == silent)
        beat = connection.execute(select(HEARTBEATS.c.heartbeat).where(HEARTBEATS.c.trial_id == silent)).scalar_one()
        connection.execute(earlier.values(heartbeat=beat - timedelta(seconds=grace + 1)))
    assert reader.find_silent(grace) == set(storage._get_stale_trial_ids(study_id)) == {silent}


def test_a_value_that_is_no_longer_json_is_a_user_error(storage: RDBStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="mine")
    study.add_trial(trial(TrialState.RUNNING, "0"))
    with storage.engine.begin() as connection:
        connection.execute(USER_ATTRS.update().values(value_json='{"key": '))
    with pytest.raises(InputError, match="a value in the storage is damaged"):
        TrialReader(storage, storage.get_study_id_from_name("mine")).read()
