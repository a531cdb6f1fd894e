"""A run killed at any time ends with the same bits as an uninterrupted one; benchmarks/kills.py has the long sweep."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SWEEP = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.mark.parametrize(("workers", "ranks"), [("0", "2"), ("2", "1")])
def test_killed_in_the_middle_and_while_saving(workers: str, ranks: str) -> None:
    """Images from files, mixup, EMA, two passes per step; with one rank, and with two of which one is killed."""
    options = ["--points", "2", "--workers", workers, "--ranks", ranks, "--seed", workers]
    ended = subprocess.run([sys.executable, str(SWEEP), *options], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 of 2 killed runs ended with the bits of the uninterrupted one" in ended.stdout
