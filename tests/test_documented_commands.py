"""Every command that README and docs show is one that the command line takes; the quick ones are run."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from t2tbuild.cli import app
from t2tbuild.spec import catalog

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
QUICK = {"validate", "ls", "cp", "show", "schema", "diagram", "fit"}
PLACEHOLDERS = {"SPEC", "RUN", "FILE", "DIR"}


def in_blocks(text: str) -> Iterator[str]:
    """Lines of code blocks, those that go on joined."""
    for pair in re.findall(r"^```\w*\n(.*?)^```|((?:^ {4,}.*\n)+)", text, re.S | re.M):
        yield from (line.strip().removeprefix("$ ") for line in "".join(pair).replace("\\\n", " ").splitlines())


def in_sentences(text: str) -> Iterator[str]:
    """Code between backticks."""
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def calls(lines: Iterator[str]) -> list[tuple[str, ...]]:
    """The words after `t2tbuild` of each call."""
    parts = (part.partition(" > ")[0] for line in lines if "t2tbuild " in line for part in line.split("&&"))
    words = [shlex.split(part, comments=True) for part in parts]
    called = [one for one in words if "t2tbuild" in one and one[0] in ("t2tbuild", "torchrun", "uv", "python")]
    found = {tuple(one[one.index("t2tbuild") + 1 :]) for one in called}
    return sorted(one for one in found if one and not one[0].startswith("--"))


TEXTS = [page.read_text(encoding="utf-8") for page in PAGES]
COMMANDS = calls(line for text in TEXTS for line in in_blocks(text))
MENTIONED = calls(line for text in TEXTS for line in in_sentences(text))
RUN = [
    words
    for words in sorted({*COMMANDS, *MENTIONED})
    if words[0] in QUICK and any(not word.startswith("-") for word in words[1:])
]


def context_of(words: tuple[str, ...]) -> Any:
    """The innermost command with its parameters read, as the command line reads them; nothing is run."""
    context: Any = typer.main.get_command(app).make_context("t2tbuild", list(words))
    while hasattr(context.command, "commands"):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return context


def test_commands_are_found() -> None:
    assert {words[0] for words in RUN} >= {"cp", "schema", "validate"}
    assert {words[0] for words in COMMANDS} >= {"train", "search", "evaluate", "validate"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_command_line_takes_it(words: tuple[str, ...]) -> None:
    context_of(words)


@pytest.mark.parametrize("words", MENTIONED, ids=" ".join)
def test_what_sentences_mention_exists(words: tuple[str, ...]) -> None:
    """Its options too; a sentence may leave out what a command is to read."""
    try:
        context_of(words)
    except Exception as error:
        if type(error).__name__ != "MissingParameter":  # typer keeps its click to itself
            raise


@pytest.mark.parametrize("words", RUN, ids=" ".join)
def test_it_runs(words: tuple[str, ...], tmp_path: Path) -> None:
    """In a folder with a `mine.yaml`, where the line does not write it itself."""
    if PLACEHOLDERS & set(words):
        pytest.skip("a placeholder stands for what is yours")
    for folder in ("specs", "search"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    if "mine.yaml" not in words[-1:] or words[0] not in ("cp", "init"):
        (tmp_path / "mine.yaml").write_text(catalog.find("t2t_vit_14").read_text())
    words = tuple(path for word in words for path in (map(str, tmp_path.glob(word)) if "*" in word else [word]))
    done = subprocess.run([sys.executable, "-m", "t2tbuild", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
