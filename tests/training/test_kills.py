"""A run killed at any time ends with the same bits as an uninterrupted one; benchmarks/kills.py has the long sweep."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

SWEEP = Path(__file__).parents[2] / "benchmarks" / "kills.py"


def test_killed_in_the_middle_and_while_saving() -> None:
    """Images from files, by loader workers, with mixup, EMA and two passes per step."""
    options = ["--points", "2", "--workers", "2", "--ranks", "1", "--seed", "2"]
    ended = subprocess.run([sys.executable, str(SWEEP), *options], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 of 2 killed runs ended with the bits of the uninterrupted one" in ended.stdout
