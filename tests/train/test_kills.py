"""A run that is killed at any instant ends with the bits of an unbroken one; benchmarks/kills.py has the long sweep."""

import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_in_the_middle_and_while_saving(workers: int, ranks: int) -> None:
    """Images from files, mixup, an average, gradients in two passes; of two ranks one is killed."""
    options = ["--points", "2", "--workers", str(workers), "--ranks", str(ranks), "--seed", str(10 * workers + ranks)]
    ended = subprocess.run([sys.executable, str(SWEEP), *options], capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 of 2 killed runs ended with the bits of the unbroken one" in ended.stdout
