"""The command line accepts every command in README.md and docs/; the fast ones are run."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from t2tbuild.cli import app
from t2tbuild.spec import catalog
from tests.command import run_t2tbuild
from tests.documents import GUIDES, ROOT, read_page, without_code

QUICK = {"validate", "ls", "cp", "show", "schema", "diagram", "fit"}
PLACEHOLDERS = {"SPEC", "RUN", "FILE", "DIR"}


def in_blocks(text: str) -> Iterator[str]:
    """Yield the lines of code blocks; continuation lines are joined."""
    for pair in re.findall(r"^```\w*\n(.*?)^```|((?:^ {4,}.*\n)+)", text, re.S | re.M):
        yield from (line.strip().removeprefix("$ ") for line in "".join(pair).replace("\\\n", " ").splitlines())


def in_sentences(text: str) -> Iterator[str]:
    """Yield the code between backticks outside of code blocks."""
    yield from re.findall(r"`([^`\n]+)`", without_code(text))


def calls(lines: Iterator[str]) -> list[tuple[str, ...]]:
    """Return the arguments of each t2tbuild command."""
    parts = (part.partition(" > ")[0] for line in lines if "t2tbuild " in line for part in line.split("&&"))
    words = [shlex.split(part, comments=True) for part in parts]
    called = [one for one in words if "t2tbuild" in one and one[0] in ("t2tbuild", "torchrun", "uv", "python")]
    found = {tuple(one[one.index("t2tbuild") + 1 :]) for one in called}
    return sorted(one for one in found if one and not one[0].startswith("--"))


TEXTS = [read_page(page) for page in GUIDES]
COMMANDS = calls(line for text in TEXTS for line in in_blocks(text))
MENTIONED = calls(line for text in TEXTS for line in in_sentences(text))
RUN = [
    words
    for words in sorted({*COMMANDS, *MENTIONED})
    if words[0] in QUICK and any(not word.startswith("-") for word in words[1:])
]


def context_of(words: tuple[str, ...]) -> Any:
    """Parse a command as the command line does, without running it; return the innermost context."""
    context: Any = typer.main.get_command(app).make_context("t2tbuild", list(words))
    while hasattr(context.command, "commands"):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return context


def test_commands_are_found() -> None:
    assert {words[0] for words in RUN} >= {"cp", "schema", "validate"}
    assert {words[0] for words in COMMANDS} >= {"train", "search", "evaluate", "validate"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_command_line_accepts_it(words: tuple[str, ...]) -> None:
    context_of(words)


@pytest.mark.parametrize("words", MENTIONED, ids=" ".join)
def test_commands_in_sentences_exist(words: tuple[str, ...]) -> None:
    """With their options; a sentence may leave out required arguments."""
    try:
        context_of(words)
    except Exception as error:
        if type(error).__name__ != "MissingParameter":  # typer bundles click privately
            raise


@pytest.mark.slow
@pytest.mark.parametrize("words", RUN, ids=" ".join)
def test_it_runs(words: tuple[str, ...], tmp_path: Path) -> None:
    """Run it in a folder with an extension, and a mine.yaml unless the command writes that file."""
    if PLACEHOLDERS & set(words):
        pytest.skip("has a placeholder")
    for folder in ("specs", "search"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    if "mine.yaml" not in words[-1:] or words[0] not in ("cp", "init"):
        (tmp_path / "mine.yaml").write_text(catalog.find("t2t_vit_14").read_text())
    shutil.copy(ROOT / "examples" / "extensions" / "window_attention.py", tmp_path / "my_attention.py")
    words = tuple(path for word in words for path in (map(str, tmp_path.glob(word)) if "*" in word else [word]))
    done = run_t2tbuild(*words, cwd=tmp_path, T2TBUILD_ALLOW_EXTENSIONS="1")
    assert done.returncode == 0, done.stdout + done.stderr
