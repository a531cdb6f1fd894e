"""Names of commands that other tools have: exact synonyms run ours, and for the others there is a hint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from t2tbuild.errors import InputError
from t2tbuild.files import is_file

SYNONYMS = {"benchmark": "bench", "eval": "evaluate", "val": "evaluate", "infer": "predict", "list": "ls"}
"""Our name of each command that is known by another name elsewhere."""

HINTS = {"tune": "a search for the best architecture, which may take hours, is started by: t2tbuild search"}
"""What to write instead of a command that may mean something else than ours, or that takes long."""

RESUME = "resume"


class AliasGroup(TyperGroup):
    """A group that also knows `SYNONYMS`, `HINTS` and `resume RUN`; --help does not list them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        return super().resolve_command(ctx, rewrite(args))


def rewrite(arguments: Sequence[str]) -> list[str]:
    """Return a command line with our name of its command. Raises InputError with a hint where that is not certain."""
    name, *rest = arguments
    if name in HINTS:
        raise InputError(f"no such command {name!r}; {HINTS[name]}")
    if name == RESUME:
        return [*_resuming(rest), *rest]
    return [SYNONYMS.get(name, name), *rest]


def _resuming(arguments: Sequence[str]) -> list[str]:
    """Return the command that continues the run among some arguments: that of a training or of a search."""
    run = next((Path(one) for one in arguments if is_file(Path(one) / "spec.yaml")), None)
    if run is None:
        named = next((f"{one} is no run; " for one in arguments if not one.startswith("-")), "")
        hint = "t2tbuild train RUN continues a training, t2tbuild search resume RUN a search"
        raise InputError(f"{RESUME}: {named}{hint}; RUN is the folder with its spec.yaml")

    from t2tbuild.spec.diagnostics.yaml_source import read_file

    found = read_file(run / "spec.yaml").data
    return ["search", RESUME] if isinstance(found, dict) and "search" in found else ["train"]
