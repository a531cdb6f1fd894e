"""Faults of a search's disk and database: full, read-only, no file descriptors, a server that refuses connections."""

import json
import shutil
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from t2tbuild import search
from t2tbuild.nas.store import retry
from t2tbuild.nas.store.url import VARIABLE
from tests.command import run_t2tbuild
from tests.faults import evaluators, search_commands
from tests.faults.attack import Attack
from tests.faults.disks import ext4_disk, memory_disk, read_only_file, repair_disk, set_read_only
from tests.faults.refusals import REFUSALS, Refusal, make_database
from tests.faults.search_commands import command, one_error, require_no_process, require_whole, resume
from tests.nas.conftest import FakeTrainer, tiny_search
from tests.nas.postgresql import Server

pytestmark = pytest.mark.slow

NIGHTLY = pytest.mark.nightly


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a search; its run is on a disk of its own, at `disk`."""
    monkeypatch.setenv(evaluators.FOLDER, str(tmp_path))
    return tmp_path


def break_search(folder: Path, evaluator: str, at: int, *settings: str, workers: int = 1, **more: str) -> str:
    """Run a search to which a fault happens at one evaluation, and return its only error."""
    run = folder / "disk" / "run"
    arguments = command(folder, evaluator, *settings, run=run, workers=workers)
    done = run_t2tbuild(*arguments, **{evaluators.AT: str(at)}, **more)
    assert done.returncode == 1, done.stderr
    require_no_process(run)
    error = one_error(done.stderr)
    assert error.endswith(f"continue with: t2tbuild search resume {run}")
    return error


def require_resumed(run: Path, storage: str | None = None) -> None:
    """Check that a search continues to its end, with every planned training once."""
    more = {} if storage is None else {VARIABLE: storage}
    done = run_t2tbuild(*resume(run), **more)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "complete"
    require_whole(run, storage=storage)
    assert (run / "report.json").is_file()


@pytest.mark.parametrize(
    ("at", "workers"),
    [(7, 1), *(pytest.param(at, count, marks=NIGHTLY) for at, count in ((1, 1), (4, 1), (11, 1), (7, 2)))],
)
def test_a_full_disk_ends_a_search_with_the_command_that_continues_it(folder: Path, at: int, workers: int) -> None:
    with memory_disk(folder / "disk") as disk:
        error = break_search(folder, "fills_the_disk", at, workers=workers)
        assert "database or disk is full" in error
        before = search_commands.calls(folder)
        status = run_t2tbuild("search", "status", str(disk / "run"))
        assert status.returncode == 0, status.stderr
        (disk / "filler").unlink()
        require_resumed(disk / "run")
        repeated = search_commands.calls(folder) - before
        interrupted = [one for one, count in (before + repeated).items() if count > 1]
        assert len(interrupted) <= workers  # the rung that could not be saved


@NIGHTLY
@pytest.mark.parametrize("at", [3, 7])
def test_a_disk_that_becomes_read_only_ends_a_search(folder: Path, at: int) -> None:
    with ext4_disk(folder / "disk", folder / "image") as disk:
        break_search(folder, "aborts_the_disk", at)
        repair_disk(disk, folder / "image")
        require_resumed(disk / "run")


def fill(disk: Path) -> AbstractContextManager[None]:
    evaluators.fill(disk)
    return nullcontext()


def lock(disk: Path) -> AbstractContextManager[None]:
    set_read_only(disk)
    return nullcontext()


def lock_the_study(disk: Path) -> AbstractContextManager[None]:
    return read_only_file(disk / "run" / "study.db")


@pytest.fixture
def unfinished(folder: Path, fake_trainer: type[FakeTrainer]) -> None:
    """A search on a disk of its own that ends before its last candidates, as after an interrupt."""
    train, trainings = fake_trainer.train, list[int]()

    def interrupt(self: FakeTrainer, *arguments: Any) -> Any:
        trainings.append(self.seed)
        if len(trainings) == 5:
            raise KeyboardInterrupt
        return train(self, *arguments)

    fake_trainer.train = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        search(tiny_search(folder), folder / "before")


# Of each fault, the exit codes of status, export, repair and resume.
FROM_THE_START = [(fill, (0, 1, 0, 1)), (lock, (2, 2, 2, 2)), (lock_the_study, (0, 0, 0, 1))]


@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize(("fault", "codes"), FROM_THE_START, ids=["full", "read-only", "study read-only"])
def test_every_command_answers_on_a_disk_that_cannot_be_written(
    folder: Path, attack: Attack, fault: Callable[[Path], AbstractContextManager[None]], codes: tuple[int, ...]
) -> None:
    """What only reads works, where it can lock the database. Afterwards the search continues."""
    with memory_disk(folder / "disk") as disk:
        run = shutil.copytree(folder / "before", disk / "run")
        with fault(disk):
            for name, code in zip(("status", "export", "repair", "resume"), codes, strict=True):
                ended = attack.run("search", name, run, *(["--workers", "1"] if name == "resume" else []))
                assert (name, ended.code) == (name, code), ended.text
                if code:
                    one_error(ended.err)
            if fault is not lock_the_study:
                new = attack.refuse("search", folder / "tiny.yaml", "--out", disk / "new", "--workers", "1")
                assert "cannot be written" in new.err
        if fault is lock:
            set_read_only(disk, False)
        (disk / "filler").unlink(missing_ok=True)
        ended = attack.run("search", "resume", run, "--workers", "1")
        assert ended.code == 0, ended.text
        require_whole(run, trials=4)


@pytest.mark.parametrize("at", [7, *(pytest.param(at, marks=NIGHTLY) for at in (1, 4, 11))])
def test_a_search_without_file_descriptors_ends_with_the_command_that_continues_it(folder: Path, at: int) -> None:
    (folder / "disk").mkdir()
    break_search(folder, "leaves_no_descriptors", at)
    require_resumed(folder / "disk" / "run")


@pytest.mark.parametrize("fault", ["fills_the_disk", pytest.param("aborts_the_disk", marks=NIGHTLY)])
def test_a_run_folder_that_cannot_be_written_beside_a_database_on_a_server(
    folder: Path, postgresql: Server, fault: str
) -> None:
    """All candidates are evaluated, and the results are written once there is a disk for them."""
    url = postgresql.database(fault)
    image = folder / "image"
    with ext4_disk(folder / "disk", image) if fault == "aborts_the_disk" else memory_disk(folder / "disk") as disk:
        error = break_search(folder, fault, 7, **{VARIABLE: url})
        assert "candidates.csv: " in error
        assert "hush-hush" not in error
        before = search_commands.calls(folder)
        require_whole(disk / "run", storage=url)
        if fault == "aborts_the_disk":
            repair_disk(disk, image)
        (disk / "filler").unlink(missing_ok=True)
        require_resumed(disk / "run", storage=url)
        assert search_commands.calls(folder) == before
        assert set(before.values()) == {1}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=list(REFUSALS))
def test_a_server_that_refuses_connections_is_one_message_and_nothing_is_written(
    folder: Path, postgresql: Server, attack: Attack, refusal: Refusal
) -> None:
    tiny_search(folder)
    name = f"at_first_{folder.name}".lower()[-40:]
    url = make_database(postgresql, name)
    refusal.begin(postgresql, name)
    try:
        refusal.require(url)
        arguments = [folder / "tiny.yaml", "--out", folder / "run", "--storage", url, "--workers", "1"]
        ended = attack.refuse("search", *arguments)
    finally:
        refusal.end(postgresql, name)
    assert refusal.text in one_error(ended.err)
    assert "hush-hush" not in ended.text
    assert not (folder / "run").exists()


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "recovery" else NIGHTLY) for name in REFUSALS])
def test_a_server_that_refuses_connections_for_a_while_loses_nothing(
    folder: Path, fake_trainer: type[FakeTrainer], postgresql: Server, name: str
) -> None:
    url, refusal, train, trainings = make_database(postgresql, f"later_{name}"), REFUSALS[name], fake_trainer.train, []

    def train_and_refuse(self: FakeTrainer, *arguments: Any) -> Any:
        trainings.append(self.seed)
        if len(trainings) == 5:
            refusal.begin(postgresql, f"later_{name}")
            refusal.require(url)
            end.start()
        return train(self, *arguments)

    end = threading.Timer(3.0, refusal.end, (postgresql, f"later_{name}"))
    fake_trainer.train = train_and_refuse  # type: ignore[method-assign]
    result = search(tiny_search(folder, "search.trials=6"), folder / "run", storage=url)
    end.join()
    assert len(trainings) == len(result.records) + len(result.reference_runs)
    require_whole(folder / "run", storage=url)


@NIGHTLY
def test_a_server_that_goes_on_refusing_ends_a_search(
    folder: Path, fake_trainer: type[FakeTrainer], postgresql: Server, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.5)
    url, refusal, train, trainings = make_database(postgresql, "ever"), REFUSALS["rejected"], fake_trainer.train, []

    def train_and_refuse(self: FakeTrainer, *arguments: Any) -> Any:
        trainings.append(self.seed)
        if len(trainings) == 5:
            refusal.begin(postgresql, "ever")
        return train(self, *arguments)

    fake_trainer.train = train_and_refuse  # type: ignore[method-assign]
    tiny_search(folder)
    given = ["--storage", url, "--workers", "1"]
    try:
        ended = attack.run("search", folder / "tiny.yaml", "search.heartbeat=1s", "--out", folder / "run", *given)
    finally:
        refusal.end(postgresql, "ever")
    assert ended.code == 1
    assert refusal.text in one_error(ended.err)
    assert one_error(ended.err).endswith(f"continue with: t2tbuild search resume {folder / 'run'}")
    assert attack.run("search", "resume", folder / "run", *given).code == 0
    require_whole(folder / "run", storage=url, trials=4)


def edit(path: Path) -> None:
    path.write_bytes(b"\x00edited\xff")


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("damage", [edit, remove], ids=lambda damage: damage.__name__)
def test_results_that_are_edited_during_a_search_are_written_again(
    folder: Path, fake_trainer: type[FakeTrainer], attack: Attack, damage: Callable[[Path], None]
) -> None:
    """At every training of a search that continues one whose results are there."""
    run, train, trainings = folder / "run", fake_trainer.train, list[int]()
    search(tiny_search(folder, "search.trials=2"), run)
    names = ("candidates.csv", "report.json")

    def train_and_damage(self: FakeTrainer, *arguments: Any) -> Any:
        trainings.append(self.seed)
        for name in names:
            damage(run / name)
        return train(self, *arguments)

    fake_trainer.train = train_and_damage  # type: ignore[method-assign]
    ended = attack.run("search", "resume", run, "--trials", "4", "--workers", "1")
    assert ended.code == 0, ended.text
    assert len(trainings) >= 2
    found = {name: (run / name).read_bytes() for name in names}
    assert len(json.loads(found["report.json"])["candidates"]) == 4
    for name in names:
        damage(run / name)
    assert attack.run("search", "export", run).code == 0
    assert {name: (run / name).read_bytes() for name in names} == found
    require_whole(run, trials=4)
