"""Fuzz a reader with inputs that its coverage guides: python benchmarks/fuzz.py spec | checkpoint | image.

Options after the target go to libFuzzer. Inputs start from tests/faults/corpus/TARGET. New ones are kept in --keep.
One that crashes, hangs for 20 seconds or takes 4 GB is written to the current folder. atheris is not among the
dependencies of t2tbuild; in a checkout with .venv, half an hour:

    python3.11 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris
    PYTHONPATH=.venv/lib/python3.11/site-packages:. OMP_NUM_THREADS=1 nice -n 15 \\
        /tmp/fuzz/bin/python benchmarks/fuzz.py spec -max_total_time=1800

Measured on 2026-11-30, two cores, beside other loads, half an hour each: checkpoint 751,675 inputs, spec 92,764, image
1,361,474; no findings.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris
import torch  # noqa: F401  # before the others: its instrumentation takes a minute

sys.path.insert(0, str(Path(__file__).parents[1]))

INSTRUMENTED = {
    "spec": ["t2tbuild.spec", "t2tbuild.cli.diagnostics", "yaml"],
    "checkpoint": ["t2tbuild.weights", "t2tbuild.training.checkpoint", "t2tbuild.manifest", "t2tbuild.files"],
    "image": ["t2tbuild.image_mode", "PIL"],
}
"""Modules whose coverage guides."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=list(INSTRUMENTED))
    parser.add_argument("--keep", type=Path, help="folder of the inputs that reached new code; by default a new one")
    given, options = parser.parse_known_args()
    with atheris.instrument_imports(include=INSTRUMENTED[given.target]):
        from tests.faults.fuzz_targets import CORPUS, TARGETS
    keep = given.keep or Path(tempfile.mkdtemp(prefix=f"fuzz-{given.target}-"))
    keep.mkdir(parents=True, exist_ok=True)
    limits = ["-timeout=20", "-rss_limit_mb=4096", "-max_len=65536", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(keep), str(CORPUS / given.target), *limits, *options], TARGETS[given.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
