"""Real studies of Optuna whose database is broken in several ways, and what is read of them afterwards."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from t2tbuild.errors import InputError
from t2tbuild.nas.store.recovery import Action, Recovery, check_integrity, recover_database

pytestmark = pytest.mark.slow
optuna.logging.set_verbosity(optuna.logging.ERROR)
PAGE, TRIALS = 4096, 120
NAMES = ("mine", "mine.references")


def study_of(path: Path, trials: int, words: int = 40) -> bytes:
    """A study with large records and a second one whose trials alternate with the first's."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    studies = [optuna.create_study(storage=storage, study_name=name) for name in NAMES]
    for number in range(trials):
        studies[number % 3 == 2].add_trial(
            optuna.create_trial(
                value=float(number),
                params={"depth": 3},
                distributions={"depth": optuna.distributions.IntDistribution(1, 20)},
                intermediate_values={1: 0.5},
                user_attrs={"record": {"text": f"trial {number} " * words}},
            )
        )
    storage.engine.dispose()
    return path.read_bytes()


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return study_of(tmp_path_factory.mktemp("study") / "study.db", TRIALS)


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


def write(folder: Path, content: bytes) -> Path:
    path = folder / "study.db"
    path.write_bytes(content)
    return path


def root_page(content: bytes, folder: Path, name: str) -> int:
    """The number of the first page of a table or index, from 0."""
    path = folder / "read.db"
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as database:
        query = "select rootpage from sqlite_master where name = ?"
        return int(database.execute(query, (name,)).fetchone()[0]) - 1


def leaf_page(content: bytes, text: bytes) -> int:
    """The number of the first leaf page of a table that has a text, from 0."""
    pages = [content[start : start + PAGE] for start in range(0, len(content), PAGE)]
    return next(number for number, page in enumerate(pages) if page[0] == 0x0D and text in page)


def overwrite(content: bytes, page: int, value: bytes = b"\xff") -> bytes:
    return content[: page * PAGE] + value * PAGE + content[(page + 1) * PAGE :]


def trials_of(path: Path, name: str) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    trials = optuna.load_study(storage=storage, study_name=name).get_trials()
    storage.engine.dispose()
    return trials


def require_usable(path: Path, broken: bytes, recovery: Recovery) -> None:
    """The new database is intact, a study continues with the next number, and the broken file was kept."""
    assert check_integrity(path) == []
    assert recovery.copy is not None
    assert recovery.copy.read_bytes() == broken
    for name in NAMES:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
        study = optuna.load_study(storage=storage, study_name=name)
        numbers = [trial.number for trial in study.get_trials()]
        assert numbers == list(range(len(numbers)))
        trial = study.ask()
        assert trial.number == len(numbers)
        assert trial.user_attrs == {}
        trial.set_user_attr("record", {})
        storage.engine.dispose()
    assert sorted(child.name for child in path.parent.iterdir() if child.name != "read.db") == [
        "study.db",
        "study.db.broken",
    ]


def test_an_intact_database_is_left_alone(intact: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, intact)
    recovery = recover_database(path)
    assert (recovery.action, recovery.copy, recovery.lines()) == (Action.INTACT, None, [])
    assert recovery.kept["trials"] == TRIALS
    assert path.read_bytes() == intact
    assert [child.name for child in tmp_path.iterdir()] == ["study.db"]


def test_a_wrong_index_is_rebuilt(intact: bytes, tmp_path: Path) -> None:
    """Bytes of keys are flipped, so that the index disagrees with its table."""
    page = root_page(intact, tmp_path, "sqlite_autoindex_trial_params_1")
    start = page * PAGE + PAGE - 40
    broken = intact[:start] + bytes(byte ^ 0x07 for byte in intact[start : start + 40]) + intact[start + 40 :]
    path = write(tmp_path, broken)
    assert check_integrity(path)
    recovery = recover_database(path)
    assert recovery.action is Action.REINDEXED
    assert sum(recovery.lost.values()) == 0
    assert recovery.kept["trials"] == recovery.kept["trial_params"] == TRIALS
    require_usable(path, broken, recovery)


@pytest.mark.usefixtures("no_program")
def test_an_unreadable_index_costs_no_row(intact: bytes, tmp_path: Path) -> None:
    broken = overwrite(intact, root_page(intact, tmp_path, "sqlite_autoindex_trial_user_attributes_1"))
    path = write(tmp_path, broken)
    recovery = recover_database(path)
    assert recovery.action in (Action.REINDEXED, Action.COPIED)
    assert sum(recovery.lost.values()) == 0
    assert recovery.kept["trial_user_attributes"] == TRIALS
    require_usable(path, broken, recovery)


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("value", [b"\xff", b"\x00"])
def test_a_lost_page_of_records_costs_its_rows_alone(intact: bytes, tmp_path: Path, value: bytes) -> None:
    page = leaf_page(intact, b"trial 20 ")
    held = intact[page * PAGE : (page + 1) * PAGE]
    gone = {number for number in range(TRIALS) if f'"trial {number} '.encode() in held}
    assert 20 in gone
    assert len(gone) < 12
    broken = overwrite(intact, page, value)
    path = write(tmp_path, broken)
    recovery = recover_database(path)
    assert recovery.action is Action.COPIED
    assert (recovery.kept["trials"], recovery.placeholders) == (TRIALS, 0)
    assert recovery.kept["trial_user_attributes"] == TRIALS - len(gone)
    assert recovery.lost["trial_user_attributes"] == len(gone)
    assert sum(recovery.lost.values()) == len(gone)
    left = {trial.value for name in NAMES for trial in trials_of(path, name) if "record" in trial.user_attrs}
    assert left == set(map(float, range(TRIALS))) - set(map(float, gone))
    assert any("trial_user_attributes" in line for line in recovery.lines())
    require_usable(path, broken, recovery)


@pytest.mark.usefixtures("no_program")
def test_lost_trials_keep_their_numbers(intact: bytes, tmp_path: Path) -> None:
    """A page of the table of trials is lost: its trials become failed ones, and their results are removed."""
    root = root_page(intact, tmp_path, "trials")
    cells = intact[root * PAGE : (root + 1) * PAGE]
    assert cells[0] == 0x05, "a table of several pages"
    first = int.from_bytes(cells[12:14], "big")  # the first cell of an interior page: its left child
    page = int.from_bytes(cells[first : first + 4], "big") - 1
    broken = overwrite(intact, page)
    path = write(tmp_path, broken)
    recovery = recover_database(path)
    lost = recovery.lost["trials"]
    assert recovery.placeholders > 0
    assert lost >= recovery.placeholders
    assert recovery.kept["trials"] + lost == TRIALS
    assert recovery.kept["trial_user_attributes"] == recovery.kept["trials"]
    failed = [one for name in NAMES for one in trials_of(path, name) if one.state is optuna.trial.TrialState.FAIL]
    assert len(failed) == recovery.placeholders
    assert not any(trial.user_attrs or trial.params for trial in failed)
    require_usable(path, broken, recovery)


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("more", [0, 777])
def test_a_third_is_cut_off(tmp_path: Path, more: int) -> None:
    """At the end of a page, or within one."""
    content = study_of(tmp_path / "read.db", 52, words=150)
    broken = content[: len(content) * 2 // 3 // PAGE * PAGE + more]
    path = write(tmp_path, broken)
    recovery = recover_database(path)
    assert recovery.action is Action.COPIED
    assert recovery.kept["trials"] == 52
    assert 0 < recovery.kept["trial_user_attributes"] < 52
    assert recovery.kept["trial_user_attributes"] + recovery.lost["trial_user_attributes"] == 52
    require_usable(path, broken, recovery)


@pytest.mark.usefixtures("no_program")
def test_the_names_of_studies_are_read_from_their_index(intact: bytes, tmp_path: Path) -> None:
    broken = overwrite(intact, root_page(intact, tmp_path, "studies"))
    path = write(tmp_path, broken)
    recovery = recover_database(path)
    assert (recovery.kept["studies"], recovery.kept["trials"]) == (2, TRIALS)
    require_usable(path, broken, recovery)


@pytest.mark.parametrize(
    "content",
    [b"", bytes(3 * PAGE), b"name,loss\n1,0.5\n" * 500, b"SQLite format 3\0"],
    ids=["empty", "zeros", "not a database", "header only"],
)
def test_nothing_to_read_is_one_error(content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=rf"{path}: not a single study can be read.*move it away"):
        recover_database(path)
    assert path.read_bytes() == content
    assert [child.name for child in tmp_path.iterdir()] == ["study.db"]


def test_without_its_first_page_nothing_is_read(intact: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, overwrite(intact, 0))
    with pytest.raises(InputError, match="not a single study can be read"):
        recover_database(path)


def test_a_missing_database_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such database"):
        recover_database(tmp_path / "study.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_program")
def test_an_older_copy_is_not_overwritten(intact: bytes, tmp_path: Path) -> None:
    broken = overwrite(intact, leaf_page(intact, b"trial 20 "))
    copies = []
    for _ in range(3):
        recovery = recover_database(write(tmp_path, broken))
        assert recovery.copy is not None
        copies.append(recovery.copy.name)
    assert copies == ["study.db.broken", "study.db.broken.2", "study.db.broken.3"]


def fake_program(folder: Path, script: str) -> None:
    """Put a program named sqlite3 into a folder."""
    program = folder / "sqlite3"
    program.write_text(f"#!{sys.executable}\nimport sqlite3, sys\n{script}")
    program.chmod(0o755)


@pytest.mark.parametrize("works", [True, False])
def test_the_program_is_used_where_it_keeps_more(
    intact: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    """A fake of it returns all rows of the intact file, or, as Debian's does, an empty script."""
    whole = tmp_path / "whole.db"
    whole.write_bytes(intact)
    (tmp_path / "bin").mkdir()
    dump = f"print('\\n'.join(sqlite3.connect({str(whole)!r}).iterdump()))"
    reading = dump if works else "sys.exit('sql error: SQL logic error')"
    writing = "sqlite3.connect(sys.argv[2]).executescript(sys.stdin.read())"
    fake_program(tmp_path / "bin", f"if sys.argv[-1].startswith('.recover'):\n    {reading}\nelse:\n    {writing}\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "run").mkdir()
    broken = overwrite(intact, leaf_page(intact, b"trial 20 "))
    path = write(tmp_path / "run", broken)
    recovery = recover_database(path)
    assert recovery.action is (Action.RECOVERED if works else Action.COPIED)
    assert (sum(recovery.lost.values()) == 0) is works
    require_usable(path, broken, recovery)


def test_the_program_of_this_machine_does_no_harm(intact: bytes, tmp_path: Path) -> None:
    broken = overwrite(intact, leaf_page(intact, b"trial 20 "))
    path = write(tmp_path, broken)
    recovery = recover_database(path)
    assert recovery.kept["trials"] == TRIALS
    require_usable(path, broken, recovery)
