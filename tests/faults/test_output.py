"""Names and texts of strangers in the output: no control character, script, formula or password gets through."""

import csv
import io
import json
import os
import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page
from rich.table import Table
from rich.text import Text

from t2tbuild import load_search_spec, load_spec
from t2tbuild.cli import console
from t2tbuild.errors import InputError
from t2tbuild.files import csv_text, safe_cell
from t2tbuild.nas import supervisor
from t2tbuild.nas.store import database, retry
from t2tbuild.nas.store.url import VARIABLE
from t2tbuild.report.diagram import write_diagram
from t2tbuild.report.training_page import write_training_page
from t2tbuild.spec.write import write_spec
from tests.faults.attack import Attack
from tests.report.browser import CHROMIUM, chromium, hover
from tests.report.searches import large_search, training

ESCAPES = "\x1b[2J\x1b]0;title\x07\x9b31m\r\x08\x00"
SCRIPTS = [
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    "\"><svg onload='window.ran = 1'>",
    "<!--<script>",
    "&lt;script&gt;window.ran = 1&lt;/script&gt;",
    "javascript:window.ran = 1",
    "{{ 7 * 7 }}${window.ran = 1}`${window.ran = 1}`",
    "\u2028window.ran = 1\u2029",
    "]]><script>window.ran = 1</script>",
]
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")']


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("wrap", [str, Text, lambda text: Table(text, title=text)], ids=["str", "Text", "Table"])
def test_a_console_writes_no_control_character(name: str, wrap: Any, capsys: pytest.CaptureFixture[str]) -> None:
    written = getattr(console, name)()
    written.print(wrap(f"a{ESCAPES}b"), soft_wrap=True, markup=False)
    found = "".join(capsys.readouterr())
    assert "\\x1b[2J" in found
    assert all(one.isprintable() or one == "\n" for one in found)


def test_an_error_names_a_file_without_its_control_characters(attack: Attack) -> None:
    ended = attack.refuse("validate", f"a{ESCAPES.strip(chr(0))}\udcff.yaml")
    assert "\\x1b" in ended.text
    ended = attack.refuse("predict", f"a{ESCAPES.strip(chr(0))}.onnx", "b\x1b[2J.png")
    assert all(one.isprintable() or one == "\n" for one in ended.text)


@pytest.mark.slow
@pytest.mark.nightly
def test_cells_of_every_table_are_no_formulas(tmp_path: Path, stranger: Path, attack: Attack) -> None:
    """confusion.csv, mistakes.csv, candidates.csv and the CSV of predict."""
    spec = load_spec(stranger / "spec.yaml")
    names = tuple(FORMULAS[:3])
    write_spec(
        spec.model_copy(update={"model": spec.model.model_copy(update={"label_names": names})}), stranger / "spec.yaml"
    )
    for split in ("train", "val"):
        for number, name in enumerate(names):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for count in range(3):
                Image.new("RGB", (32, 32), (70 * number, 20 * count, 0)).save(folder / f"={count}.png")
    ended = attack.run("evaluate", stranger, "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert ended.code == 0, ended.text
    ended = attack.run("predict", stranger, tmp_path / "data" / "val", "--csv", tmp_path / "out" / "predicted.csv")
    assert ended.code == 0, ended.text
    large_search(tmp_path / "search", 12, reason=FORMULAS[-1])
    assert FORMULAS[-1] not in (cells := read_cells(tmp_path / "search" / "candidates.csv"))
    assert f"'{FORMULAS[-1]}" in cells
    assert csv_text([FORMULAS[0]], [{FORMULAS[0]: FORMULAS[3]}]).splitlines() == [f"'{FORMULAS[0]}", f"'{FORMULAS[3]}"]
    assert all(safe_cell(formula) == f"'{formula}" for formula in FORMULAS)
    found = [read_cells(tmp_path / "out" / name) for name in ("confusion.csv", "mistakes.csv", "predicted.csv")]
    assert all(any(cell.startswith("'=") for cell in cells) for cells in found)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cells in found for cell in cells)


def read_cells(file: Path) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")) for cell in row]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with chromium() as browser:
        yield browser.new_page()


@pytest.mark.slow
@pytest.mark.nightly
def test_no_text_of_a_search_runs_in_its_page(tmp_path: Path, page: Page) -> None:
    large_search(tmp_path, 12, reason=" ".join(SCRIPTS))
    file = tmp_path / "report.html"
    page.goto(file.as_uri())
    for mark in page.locator("#pareto .mark").all()[:3]:
        hover(mark)
        mark.click(force=True)
    assert page.evaluate("window.ran") is None
    assert SCRIPTS[0] in page.locator("body").inner_text()


@pytest.mark.slow
def test_no_text_of_a_training_runs_in_its_page(tmp_path: Path, page: Page) -> None:
    """Names of classes, the command of environment.json, and keys of the metrics."""
    training(tmp_path, 3)
    spec = load_spec(tmp_path / "spec.yaml", ["model.num_classes=10"])
    named = spec.model.model_copy(update={"label_names": tuple(SCRIPTS)})
    write_spec(spec.model_copy(update={"model": named}), tmp_path / "spec.yaml")
    environment = json.loads((tmp_path / "environment.json").read_text())
    environment |= {"command": SCRIPTS, "packages": {name: name for name in SCRIPTS}, "device": SCRIPTS[1]}
    (tmp_path / "environment.json").write_text(json.dumps(environment))
    write_training_page(tmp_path)
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_timeout(100)
    assert page.evaluate("window.ran") is None
    assert page.locator("img").count() == 0
    assert SCRIPTS[0] in page.locator("body").inner_text()


@pytest.mark.slow
@pytest.mark.nightly
def test_no_text_of_a_model_runs_in_its_diagram(tmp_path: Path, page: Page) -> None:
    """A spec refuses such a name; the diagram does not rely on it."""
    model = load_spec("t2t_vit_7").model
    for number, name in enumerate(name for name in SCRIPTS if name.isprintable()):
        file = tmp_path / f"{number}.svg"
        write_diagram(model.model_copy(update={"name": name}), file)
        page.goto(file.as_uri())
        assert page.evaluate("window.ran") is None
        assert name in page.locator("svg").first.evaluate("one => one.textContent")


SECRET = "hush-hush"
URLS = [
    f"postgresql://me:{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}%40x@127.0.0.1:1/db",
    f"postgresql://me:x@{SECRET}@127.0.0.1:1/db",
    f"postgresql://127.0.0.1:1/db?user=me&password={SECRET}",
    f"mysql://me:{SECRET}@127.0.0.1:1/db",
    f"mongodb://me:{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}@127.0.0.1:port/db",
]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not answer is not tried again; the test of a first connection below does without."""
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("by", ["option", pytest.param("variable", marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    "url",
    [*URLS[:3], *(pytest.param(url, marks=pytest.mark.nightly) for url in URLS[3:])],
    ids=lambda url: url.replace(SECRET, "..."),
)
def test_a_password_of_a_storage_is_in_no_message_and_no_file(
    url: str, by: str, tmp_path: Path, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--storage", url] if by == "option" else []
    if by == "variable":
        monkeypatch.setenv(VARIABLE, url)
    ended = attack.refuse("search", "lite", "search.trials=1", "--out", tmp_path / "run", *given, "--workers", "1")
    assert SECRET not in ended.text
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in files)


ODD_URLS = [
    "sqlite:////proc/nowhere/x.db",
    "sqlite:////dev/null",
    "sqlite://",
    "oracle://host/db",
    "://",
    "postgresql://[::1/db",
]
MORE_ODD_URLS = ["sqlite:///:memory:", "file:///etc/passwd", "sqlite:///\x1b[2J/x.db", "mysql://h/" + "d" * 10_000]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "url",
    [*ODD_URLS, *(pytest.param(url, marks=pytest.mark.nightly) for url in MORE_ODD_URLS)],
    ids=lambda url: url[:24],
)
def test_an_odd_storage_is_refused_with_few_lines(url: str, tmp_path: Path, attack: Attack) -> None:
    ended = attack.refuse("search", "lite", "search.trials=1", "--out", tmp_path / "run", f"--storage={url}")
    assert "storage" in ended.err
    assert len(ended.err) < 5_000 + len(url)
    assert not list(tmp_path.iterdir())


def test_a_password_is_in_no_traceback() -> None:
    pytest.importorskip("psycopg")
    before = time.monotonic()
    with pytest.raises(InputError) as error:
        database.open_database(URLS[0].replace("://", "+psycopg://"), load_search_spec("lite").search)
    assert SECRET not in "".join(traceback.format_exception(error.value))
    assert time.monotonic() - before < 20  # the first connection is not repeated for two minutes


def test_a_password_is_in_no_command_line_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process list of a real worker, which ends as its folder holds no search."""
    listed: list[bytes] = []
    start = subprocess.Popen

    def remember(command: list[str], **options: Any) -> Any:
        assert options["env"][VARIABLE] == URLS[0]
        process = start(command, **options)
        while not (line := Path(f"/proc/{process.pid}/cmdline").read_bytes()):  # the kernel fills it after the start
            assert process.poll() is None
        listed.append(line)
        return process

    monkeypatch.setattr(supervisor.subprocess, "Popen", remember)
    process = supervisor._start_worker(tmp_path, URLS[0], 0, 1, time.monotonic() + 60)
    process.kill()
    process.wait()
    assert str(tmp_path).encode() in listed[0]
    assert SECRET.encode() not in listed[0]
    assert os.listdir(tmp_path) == ["workers"]  # noqa: PTH208
