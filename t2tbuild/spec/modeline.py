"""The first line of a spec file, by which an editor finds the schema that completes and checks it."""

import os
from pathlib import Path
from typing import Literal

from t2tbuild.spec.catalog import SCHEMAS

Kind = Literal["spec", "search"]
MARK = "# yaml-language-server: $schema="


def modeline(kind: Kind, file: Path) -> str:
    """The line for a file that is to stand at `file`: relative where the schema lies below the same working folder."""
    schema, here = SCHEMAS[kind], Path.cwd()
    if schema.is_relative_to(here) and file.absolute().is_relative_to(here):
        return MARK + os.path.relpath(schema, file.absolute().parent)
    return MARK + str(schema)


def with_modeline(text: str, kind: Kind, file: Path) -> str:
    """A spec's text with the line for its new place at the top, in place of the one that it had."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(MARK)]
    return modeline(kind, file) + "\n" + "".join(lines)
