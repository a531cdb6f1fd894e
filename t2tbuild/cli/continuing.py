"""The command that continues an interrupted training or search, from any folder."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from t2tbuild.files import redact

if TYPE_CHECKING:
    from t2tbuild.spec.data import AnyData


def start_again_command() -> str:
    """Return the command of this process in its folder, without passwords."""
    command = shlex.join(["t2tbuild", *(redact(argument) for argument in sys.argv[1:])])
    return f"cd {shlex.quote(str(Path.cwd()))} && {command}"


def continue_command(command: Sequence[str], run: Path, data: AnyData | None, more: Sequence[str] = ()) -> str:
    """Return `t2tbuild COMMAND RUN MORE`, with the folder that relative paths of the run's data start from."""
    return _data_variable(data) + shlex.join(["t2tbuild", *command, str(run.absolute()), *more])


def _data_variable(data: AnyData | None) -> str:
    """Return the assignment that lets relative paths of the data start from the folder that they start from now."""
    from t2tbuild.spec.data import DATA_VARIABLE

    paths = [getattr(data, name, None) for name in ("root", "file")]
    given = os.environ.get(DATA_VARIABLE, "")
    if Path(given).is_absolute() or all(path is None or Path(path).expanduser().is_absolute() for path in paths):
        return ""
    return f"{DATA_VARIABLE}={shlex.quote(str(Path(given).absolute()))} "
