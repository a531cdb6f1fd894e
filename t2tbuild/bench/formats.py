"""Benchmark exported files, and the torch model that they came from: latency, size and memory of each."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from t2tbuild.bench.inputs import random_batch
from t2tbuild.bench.runtimes import torch_threads
from t2tbuild.bench.timing import RoundProgress, Step, Timing, time_steps
from t2tbuild.errors import CostError
from t2tbuild.weights.exported import ExportedModel, ExportInfo, open_exported
from t2tbuild.weights.formats import export_size
from t2tbuild.weights.preprocessing import Array, Preprocessing

CPU = torch.device("cpu")
MEMORY_SECONDS = 600.0
"""Longest time of the process that measures the memory of one file."""


@dataclass(frozen=True)
class FormatMeasurement:
    """The result of one file, or of the torch model.

    Attributes:
        name: Its name in the table.
        runtime: The library that runs it: torch, onnxruntime, torch.export, openvino.
        precision: float32, float16 or int8.
        inside: Whether its graph has the preprocessing inside, which is then part of the latency.
        speed: The seconds of a batch.
        images_per_second: At the median.
        size: Bytes of the file, and of the weights beside it; of the torch model those of its tensors.
        memory: Bytes of the peak of a process that runs it, above that of the runtime alone; None without a file.
        accuracy: Top-1, 0 to 1, on the images that were given; None without any.
    """

    name: str
    runtime: str
    precision: str
    inside: bool
    speed: Timing
    images_per_second: float
    size: int
    memory: int | None
    accuracy: float | None = None


@dataclass(frozen=True)
class FormatsResult:
    """The results of all models, in the given order, on one CPU with a number of threads."""

    batch_size: int
    threads: int
    images: int
    measurements: tuple[FormatMeasurement, ...]

    def ratio(self, one: FormatMeasurement) -> float:
        """Return its throughput relative to that of the first one."""
        return one.images_per_second / self.measurements[0].images_per_second


class EagerModel(ExportedModel):
    """A built model in torch on the CPU, without a file, to compare files with."""

    runtime = "torch"

    def __init__(self, name: str, built: nn.Module, steps: Preprocessing) -> None:
        super().__init__(Path(name), ExportInfo(name, None, replace(steps, inside=False)))
        self.built = built.eval()

    @property
    def size(self) -> int:
        """The bytes of its tensors."""
        return sum(value.nbytes for value in self.built.state_dict().values())

    def _run(self, images: Array) -> Array:
        with torch.inference_mode():
            logits: Array = self.built(torch.from_numpy(images)).numpy()
        return logits


def benchmark_formats(
    models: Mapping[str, Path | EagerModel],
    *,
    batch_size: int,
    threads: int,
    seconds: float,
    rounds: int,
    accuracy: Callable[[ExportedModel], tuple[float, int]] | None = None,
    listener: Callable[[str | RoundProgress], None] = lambda _: None,
) -> FormatsResult:
    """Time files by their names in turn on random batches, on the CPU, and measure the memory of each.

    The memory is that of a process of its own, and not measured of a model without a file. `accuracy` returns top-1 and
    the number of images of an opened file.
    Raises InputError for a file that cannot be opened, and CostError for one that cannot run.
    """
    opened: dict[str, ExportedModel] = {}
    memory, sizes, found, images = {}, {}, {}, 0
    for name, one in models.items():
        if isinstance(one, EagerModel):
            opened[name], sizes[name] = one, one.size
            continue
        listener(f"{name}: memory")
        memory[name] = measure_memory(one, batch_size, threads)
        opened[name], sizes[name] = open_exported(one, threads=threads), export_size(one)
    if accuracy is not None:
        for name, model in opened.items():
            listener(f"{name}: accuracy")
            found[name], images = accuracy(model)
    listener("rounds")
    steps: dict[str, Step] = {name: _make_step(model, batch_size) for name, model in opened.items()}
    with torch_threads(threads):
        times = time_steps(steps, CPU, seconds=seconds, rounds=rounds, listener=listener)
    return FormatsResult(
        batch_size,
        threads,
        images,
        tuple(
            FormatMeasurement(
                name=name,
                runtime=model.runtime,
                precision=model.info.precision,
                inside=model.info.preprocessing.inside,
                speed=times[name],
                images_per_second=batch_size / times[name].median,
                size=sizes[name],
                memory=memory.get(name),
                accuracy=found.get(name),
            )
            for name, model in opened.items()
        ),
    )


def _make_step(model: ExportedModel, batch_size: int) -> Step:
    """Return a step that runs an opened file on a random batch."""
    images = random_batch(model.info.preprocessing, batch_size)
    return lambda: model(images)


def measure_memory(path: Path, batch_size: int, threads: int) -> int:
    """Return the bytes of the peak of a process that opens a file and runs it, above that of the runtime alone."""
    command = [sys.executable, "-m", "t2tbuild.bench.format_process", str(path), str(batch_size), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MEMORY_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise CostError(f"{path}: did not run within {MEMORY_SECONDS:g} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise CostError(f"{path}: cannot be run: {lines[-1]}")
    memory: int = json.loads(done.stdout.splitlines()[-1])["memory"]
    return memory
