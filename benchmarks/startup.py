"""Measure the start-up time of commands, relative to a bare Python and an import of torch.

    python benchmarks/startup.py

All commands run in turn for five rounds, so that a slow phase of the machine affects all of them. Prints medians.
Measured on 2026-11-23, two CPU cores, with compiled bytecode, as ratios to `python -c pass` (0.014 s): --help 7.5,
an error of an option 16, the errors of a spec 24, validate of all 41 shipped specs 34, of the slowest bad input 83
(1.2 s), the table of summarize 27 (0.37 s, spread 0.33 to 0.46), the same verified by fvcore 195 (2.7 s), import torch
141 (2.0 s).
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from t2tbuild.spec import catalog

ROUNDS = 5
BROKEN = "version: 1\nmodel: {name: x, tokenizer: {stages: [{patch_size: 7, overlap: 9}]}, backbone: {dpeth: 3}}\n"


def seconds(arguments: list[str]) -> float:
    """Return the wall time of one process in seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    spec = Path(tempfile.mkdtemp()) / "broken.yaml"
    spec.write_text(BROKEN)
    long = spec.with_name("long.yaml")  # the slowest of the bad inputs in tests/spec
    text = catalog.find("t2t_vit_14").read_text().replace("mlp_ratio: 3", f"mlp_ratio: {[-3] * 19_000}")
    long.write_text(text)
    cli = ["-m", "t2tbuild"]
    shipped = catalog.all_names()
    commands = {
        "python -c pass": ["-c", "pass"],
        "import t2tbuild": ["-c", "import t2tbuild"],
        "t2tbuild --help": [*cli, "--help"],
        "t2tbuild search --budget-macs 5GB (error)": [*cli, "search", "--budget-macs", "5GB"],
        "t2tbuild summarize broken.yaml (errors)": [*cli, "summarize", str(spec)],
        "t2tbuild validate (all shipped specs)": [*cli, "validate", *shipped],
        "t2tbuild validate (19,000 wrong ratios)": [*cli, "validate", str(long)],
        "t2tbuild summarize t2t_vit_14 --fast": [*cli, "summarize", "t2t_vit_14", "--fast"],
        "t2tbuild summarize t2t_vit_14 (verified)": [*cli, "summarize", "t2t_vit_14"],
        "import torch": ["-c", "import torch"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, arguments in commands.items():
            times[name].append(seconds(arguments))
    bare = statistics.median(times["python -c pass"])
    print(f"{'command':44} {'median s':>9} {'spread':>13} {'x bare Python':>14}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:44} {median:9.2f} {min(values):6.2f}-{max(values):.2f} {median / bare:14.1f}")


if __name__ == "__main__":
    main()
