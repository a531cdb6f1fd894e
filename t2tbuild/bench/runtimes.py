"""The runtimes that run a model: torch as it is built, and ONNX Runtime on an exported file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from t2tbuild.bench.steps import inference_step
from t2tbuild.bench.timing import Step
from t2tbuild.weights.onnx_session import open_session


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Within this context, torch's CPU operators run on `count` threads; None leaves their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torch_step(built: nn.Module, images: NDArray[np.float32], device: torch.device) -> Step:
    """Return a step that runs a built model in float32 on a device."""
    return inference_step(built.to(device), torch.from_numpy(images).to(device), torch.float32)


def onnxruntime_step(path: Path, images: NDArray[np.float32], threads: int) -> Step:
    """Return a step that runs an ONNX file with ONNX Runtime on the CPU.

    Raises InputError for a file that it cannot run.
    """
    session = open_session(path, threads)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})
