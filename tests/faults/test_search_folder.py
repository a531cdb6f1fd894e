"""Faults of a search's folder: results and spec damaged, another version's study, two searches in one folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.command import start_t2tbuild
from tests.database_file import open_database_file
from tests.faults.attack import Attack
from tests.faults.damages import be_a_folder, delete, edit_record, empty, garbage
from tests.faults.invariants import ROUNDS
from tests.faults.search_commands import one_error, require_whole
from tests.nas.conftest import tiny_search

pytestmark = pytest.mark.slow

COMMANDS = ("status", "repair", "export", "resume")


def arguments(command: str, run: Path) -> list[str]:
    return ["search", command, str(run), *(["--workers", "1"] if command == "resume" else [])]


@pytest.mark.parametrize(
    "name",
    [
        "candidates.csv",
        "report.json",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ("best.yaml", "report.html", "pareto.png")),
    ],
)
@pytest.mark.parametrize("damage", [delete, garbage], ids=["deleted", "garbage"])
def test_results_that_were_deleted_or_edited_are_written_again(
    run: Path,
    complete: Path,
    attack: Attack,
    name: str,
    damage: Callable[[Path], None],
    record_property: Callable[..., None],
) -> None:
    """By export and by resume, of which each meets the damage; status and repair do not read the results."""
    record_property(ROUNDS, len(COMMANDS))
    status = attack.run(*arguments("status", run))
    assert attack.run(*arguments("export", run)).code == 0
    before = (run / name).read_bytes()
    if (complete / name).exists():  # the pages and pictures are those of a command
        assert before.replace(bytes(run), bytes(complete)) == (complete / name).read_bytes()
    for command in COMMANDS:
        damage(run / name)
        damaged = (run / name).read_bytes() if (run / name).exists() else None
        ended = attack.run(*arguments(command, run))
        assert ended.code == 0, ended.text
        if command == "status" and name == "report.json":  # which has the verdict
            assert f"write the results with: t2tbuild search export {run}" in " ".join(ended.text.split())
        elif command == "status":
            assert ended == status
        if command in ("status", "repair"):
            assert ((run / name).read_bytes() if (run / name).exists() else None) == damaged
            continue
        content = (run / name).read_bytes()
        if name == "pareto.png":
            with Image.open(run / name) as picture:
                picture.load()
        elif name == "report.html":
            assert content.rstrip().endswith(b"</html>")
        elif name == "report.json":  # the seconds of the search include those of resume
            assert json.loads(content) | {"seconds": 0} == json.loads(before) | {"seconds": 0}
        else:
            assert content == before


@pytest.mark.parametrize("damage", [Path.unlink, garbage, empty, be_a_folder], ids=lambda damage: damage.__name__)
def test_a_search_without_its_spec_is_one_message(
    run: Path, attack: Attack, damage: Callable[[Path], None], record_property: Callable[..., None]
) -> None:
    record_property(ROUNDS, len(COMMANDS))
    damage(run / "spec.yaml")
    for command in COMMANDS:
        assert "spec.yaml" in attack.refuse(*arguments(command, run)).text


def test_a_spec_that_was_edited_is_refused_with_the_difference(
    run: Path, attack: Attack, record_property: Callable[..., None]
) -> None:
    """By every command: the database has the spec, too."""
    record_property(ROUNDS, len(COMMANDS))
    text = (run / "spec.yaml").read_text()
    (run / "spec.yaml").write_text(text.replace("macs: 3M", "macs: 2M").replace("macs: 3000000", "macs: 2000000"))
    assert (run / "spec.yaml").read_text() != text
    for command in COMMANDS:
        lines = attack.refuse(*arguments(command, run)).text.splitlines()
        assert [line.strip()[:1] for line in lines if "macs: " in line] == ["-", "+"], (command, lines)


def a_key_of_a_record(run: Path) -> None:
    edit_record(run / "study.db", '"rungs"', '"quantized": true, "rungs"')


def a_key_of_a_rung(run: Path) -> None:
    edit_record(run / "study.db", '"steps"', '"perplexity": 2.0, "steps"')


def a_key_of_a_model(run: Path) -> None:
    edit_record(run / "study.db", '"embed_dim"', '"window": 7, "embed_dim"')


def a_field_of_the_spec(run: Path) -> None:
    path = run / "spec.yaml"
    path.write_text(path.read_text().replace("  name: tiny\n", "  name: tiny\n  islands: 3\n"))


def a_field_of_the_stored_spec(run: Path) -> None:
    """The run folder is this version's, and the database a newer one's."""
    with open_database_file(run / "study.db") as opened:
        value = r"replace(value_json, '  name: tiny\n', '  name: tiny\n  islands: 3\n')"
        assert opened.execute(f"update study_user_attributes set value_json = {value} where key = 'spec'").rowcount == 1


NEWER = [
    (a_key_of_a_record, "the record of trial 0 has the key 'quantized', which this version does not know"),
    (a_key_of_a_rung, "the record of trial 0 has the key 'perplexity', which this version does not know"),
    (a_key_of_a_model, "the record of trial 0 has the key 'window', which this version does not know"),
    (a_field_of_the_spec, "unknown key 'islands' in search"),
    (a_field_of_the_stored_spec, "islands: 3"),
]


@pytest.mark.parametrize(("change", "said"), NEWER, ids=lambda value: getattr(value, "__name__", ""))
def test_a_study_of_a_newer_version_is_one_message(
    run: Path, attack: Attack, change: Callable[[Path], None], said: str, record_property: Callable[..., None]
) -> None:
    """It is not called damaged, nothing is removed from it, and the newer version can still read all of it."""
    record_property(ROUNDS, len(COMMANDS))
    change(run)
    with open_database_file(run / "study.db") as opened:
        before = list(opened.iterdump())
    for command in COMMANDS:
        ended = attack.refuse(*arguments(command, run))
        assert said in ended.text
        assert "damaged" not in ended.text
        assert "restore" not in ended.text
    with open_database_file(run / "study.db") as opened:
        assert list(opened.iterdump()) == before


def test_of_two_searches_in_one_folder_at_once_one_is_refused(
    tmp_path: Path, record_property: Callable[..., None]
) -> None:
    """Two commands are started together: in a new folder, and then with more trials in the one that they left."""
    tiny_search(tmp_path)
    run = tmp_path / "run"
    fields = ["trials=2", "proxy.rungs=[2,4]", "proxy.seeds=1", "zero_cost.names=[]", "target=data"]
    begin = ["search", str(tmp_path / "tiny.yaml"), *(f"search.{one}" for one in fields), "--out", str(run)]
    rounds = [(begin, 2), (["search", "resume", str(run), "--trials", "3"], 3)]
    record_property(ROUNDS, len(rounds))
    for command, trials in rounds:
        both = [start_t2tbuild(*command, "--workers", "1") for _ in range(2)]
        ended = [(one.communicate(timeout=120)[1], one.returncode) for one in both]
        (won, _), (refused, _) = sorted(ended, key=lambda one: one[1] or 0)
        assert sorted(code or 0 for _, code in ended) == [0, 2], ended
        assert "error: " not in won
        assert "another process uses it" in one_error(refused)
        require_whole(run, trials=trials)
