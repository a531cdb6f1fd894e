"""Run an exported file once in a process of its own: python -m t2tbuild.bench.format_process FILE BATCH THREADS.

`t2tbuild.bench.formats` starts it and reads the peak of its memory.
"""

import importlib
import json
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from t2tbuild.bench.inputs import random_batch
from t2tbuild.weights.exported import SUFFIXES, open_exported

RUNS = 3


def read_memory(field: str) -> int:
    """Return a field of /proc/self/status in bytes: VmRSS, the memory now, or VmHWM, its peak.

    Where there is no such file, return the peak: a process that starts another one passes its own peak on to it, so the
    file is better.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def load_runtime(name: str) -> None:
    """Import a runtime with what it loads for its first model: OpenVINO its plugin for the CPU."""
    runtime: Any = importlib.import_module(name)
    if name == "openvino":
        empty = runtime.opset1.parameter([1], np.float32)
        runtime.compile_model(runtime.Model([empty], [empty]), "CPU")


def forget_peak() -> None:
    """Set VmHWM, the peak of the memory, to the memory now, where the system allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def main() -> None:
    """Print the memory of the file that the command line names, as JSON."""
    path, batch_size, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    load_runtime(SUFFIXES[path.suffix].runtime)
    forget_peak()
    before = read_memory("VmRSS")
    model = open_exported(path, threads=threads)
    images = random_batch(model.info.preprocessing, batch_size)
    for _ in range(RUNS):
        model(images)
    print(json.dumps({"memory": max(0, read_memory("VmHWM") - before)}))


if __name__ == "__main__":
    main()
