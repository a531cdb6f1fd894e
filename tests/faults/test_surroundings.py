"""Commands without a reader, a terminal, a home, a place to write, or a locale: an exit code, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import run_t2tbuild

pytestmark = pytest.mark.slow

T2TBUILD = f"{sys.executable} -m t2tbuild"


def shell(line: str, folder: Path, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; a variable that is None is not there."""
    environment = {name: value for name, value in (dict(os.environ) | variables).items() if value is not None}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("command", ["ls", pytest.param("schema spec", marks=pytest.mark.nightly)])
def test_a_reader_that_stops_early(command: str, tmp_path: Path) -> None:
    done = shell(f"{T2TBUILD} {command} | head -n 1", tmp_path)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    done = shell(f"{T2TBUILD} {command} | true", tmp_path)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(("closed", "code"), [("<&- >&- 2>&-", 2), pytest.param("2>&-", 2, marks=pytest.mark.nightly)])
def test_closed_streams_do_not_change_the_exit_code(closed: str, code: int, tmp_path: Path) -> None:
    done = shell(f"{T2TBUILD} validate nothing {closed}", tmp_path)
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr


LOCALES = [{"LANG": "C", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
MORE_LOCALES = [
    {"COLUMNS": "0"},
    {"TERM": "dumb", "FORCE_COLOR": "1", "COLUMNS": "40", "HOME": None, "XDG_CACHE_HOME": None},
    {"LANG": "C", "LC_ALL": "C"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii"},
    {"TERM": "dumb"},
    {"TERM": None},
    {"COLUMNS": "40"},
    {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": None},
]


@pytest.mark.parametrize(
    "variables", [*LOCALES, *(pytest.param(one, marks=pytest.mark.nightly) for one in MORE_LOCALES)], ids=str
)
def test_locales_terminals_and_homes(variables: dict[str, str | None], tmp_path: Path) -> None:
    """A name and a model of characters that an ASCII locale lacks."""
    (tmp_path / "modèle模.yaml").write_text("version: 1\nmodel: t2t_vit_7\npaper: [{note: '≤ 模'}]\n", encoding="utf-8")
    (tmp_path / "bad模.yaml").write_text("version: 1\nmodel: 模\n", encoding="utf-8")
    line = f"{T2TBUILD} show modèle模.yaml && {T2TBUILD} validate bad模.yaml"
    done = shell(line, tmp_path, **variables)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "error" in done.stdout


@pytest.mark.parametrize(
    "out", ["link", *(pytest.param(one, marks=pytest.mark.nightly) for one in ("file/run", "/proc/run", "/dev/null"))]
)
@pytest.mark.parametrize(
    "command",
    [
        pytest.param("train t2t_vit_7 train.epochs=1", id="train", marks=pytest.mark.nightly),
        pytest.param("search lite search.trials=1 --workers 1", id="search"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_message(command: str, out: str, tmp_path: Path) -> None:
    """Also for root, which no permission stops."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("link")
    done = run_t2tbuild(*command.split(), "--out", out, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert sum("error" in line for line in done.stderr.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.nightly
def test_a_cache_that_cannot_be_written_does_not_stop_a_training(tmp_path: Path) -> None:
    tiny = ["model.backbone.depth=1", "model.backbone.embed_dim=64", "train.data.image_size=16", "train.epochs=1"]
    done = run_t2tbuild(
        "train", "t2t_vit_7", *tiny, "--out", "run", cwd=tmp_path, HOME="/proc/nowhere", XDG_CACHE_HOME=""
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
