"""Run a command of t2tbuild in this process as its main function does, and check that it survives an attack."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from t2tbuild import cli
from tests.command import ENDED

ENDINGS = (0, 1, 2)
MAX_LINES = 40


@dataclass(frozen=True)
class Ended:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Attack:
    """Runs commands; any exception of theirs but an exit is raised."""

    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: str | Path) -> Ended:
        """Run `t2tbuild ARGUMENTS`. It must end with a documented exit code, without a control character."""
        self.patch.setattr(sys, "argv", ["t2tbuild", *map(str, arguments)])
        self.capture.readouterr()
        with pytest.raises(SystemExit) as end:
            cli._run()
        out, err = self.capture.readouterr()
        ENDED.append(int(end.value.code or 0))
        assert end.value.code in ENDINGS, err
        assert "Traceback" not in out + err
        assert "\x1b" not in out + err
        return Ended(int(end.value.code or 0), out, err)

    def refuse(self, *arguments: str | Path, code: int = 2) -> Ended:
        """Run a command that must refuse its input with one short message."""
        ended = self.run(*arguments)
        assert ended.code == code, ended.text
        assert 0 < len(ended.text.splitlines()) <= MAX_LINES, ended.text
        return ended
