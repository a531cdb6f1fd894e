"""The command export in this process, and the message of one that is refused."""

from pathlib import Path

from typer.testing import CliRunner, Result

from t2tbuild.cli import app
from t2tbuild.errors import InputError


def export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def refusal(*arguments: str | Path) -> str:
    """Return the message of an export whose input is refused with exit code 2."""
    error = export(*arguments).exception
    assert isinstance(error, InputError), error
    assert error.exit_code == 2
    return str(error)
