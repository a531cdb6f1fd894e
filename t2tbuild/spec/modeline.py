"""The modeline: the first line of a spec file, which names its JSON Schema for editors."""

import os
from pathlib import Path
from typing import Literal

from t2tbuild.spec.catalog import SCHEMAS

Kind = Literal["spec", "search"]
MARK = "# yaml-language-server: $schema="


def modeline(kind: Kind, file: Path) -> str:
    """Return the modeline for a file at `file`. It is relative if both are below the working folder."""
    schema, here = SCHEMAS[kind], Path.cwd()
    if schema.is_relative_to(here) and file.absolute().is_relative_to(here):
        return MARK + os.path.relpath(schema, file.absolute().parent)
    return MARK + str(schema)


def with_modeline(text: str, kind: Kind, file: Path) -> str:
    """Replace the modeline of a spec's text by the one for its new place."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(MARK)]
    return modeline(kind, file) + "\n" + "".join(lines)
