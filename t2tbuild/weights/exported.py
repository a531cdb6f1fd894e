"""Open an exported file (.onnx, .pt2, OpenVINO's .xml) and run it. Torch is imported only for .pt2."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from t2tbuild.errors import InputError, T2TBuildError, is_memory_full
from t2tbuild.files import is_file
from t2tbuild.weights.metadata import KEY, ExportInfo, parse_metadata
from t2tbuild.weights.onnx_session import describe_failure, open_session, unreadable
from t2tbuild.weights.preprocessing import Array, Preprocessing
from t2tbuild.weights.torch_export_archive import UnsafeArchiveError, check_archive

__all__ = [
    "SUFFIXES",
    "ExportInfo",
    "ExportedModel",
    "Preprocessing",
    "is_exported",
    "open_exported",
]


class ExportedModel(ABC):
    """An opened file. Call it with a batch of inputs, or with Pillow images.

    Attributes:
        path: The file.
        info: Its metadata.
        runtime: The module that runs it: onnxruntime, torch.export or openvino.
        extra: The extra of t2tbuild that installs it; empty for a dependency.
    """

    runtime: ClassVar[str]
    extra: ClassVar[str] = ""

    def __init__(self, path: Path, info: ExportInfo) -> None:
        self.path, self.info = path, info

    def __call__(self, images: Array) -> Array:
        """Return the logits [batch, classes] in float32 of a batch of inputs.

        These are normalised float32 [batch, in_chans, height, width], or bytes [batch, height, width, in_chans] of any
        size if the graph has the preprocessing inside (`info.preprocessing.inside`). Raises T2TBuildError for another
        input, and where the runtime fails.
        """
        try:
            return self._run(images)
        except Exception as error:  # each runtime has types of its own
            if is_memory_full(error):
                raise
            steps = self.info.preprocessing
            expected = f"float32 of shape [batch, {steps.in_chans}, {steps.image[0]}, {steps.image[1]}]"
            if steps.inside:
                expected = f"uint8 of shape [batch, height, width, {steps.in_chans}]"
            raise T2TBuildError(
                f"{self.path}: {self.runtime} cannot run it on {images.dtype} of shape {list(images.shape)}; it "
                f"expects {expected}: {describe_failure(error)}"
            ) from None

    @abstractmethod
    def _run(self, images: Array) -> Array:
        """Return the logits in float32."""

    def prepare(self, image: Image.Image) -> Array:
        """Return the input of one image, without the dimension of the batch."""
        return self.info.preprocessing.prepare(image)

    def logits(self, images: Sequence[Image.Image]) -> Array:
        """Return the logits [len(images), classes] of Pillow images of any sizes."""
        inputs = [self.prepare(image) for image in images]
        if len({one.shape for one in inputs}) == 1:
            return self(np.stack(inputs))
        return np.concatenate([self(one[None]) for one in inputs])


class _OnnxModel(ExportedModel):
    runtime, extra = "onnxruntime", "onnx"

    def __init__(self, path: Path, threads: int | None) -> None:
        self.session = open_session(path, threads)
        super().__init__(path, _parse(path, self.session.get_modelmeta().custom_metadata_map.get(KEY)))
        self.input = self.session.get_inputs()[0].name

    def _run(self, images: Array) -> Array:
        return np.asarray(self.session.run(None, {self.input: images})[0], np.float32)


class _TorchExportModel(ExportedModel):
    runtime = "torch.export"

    def __init__(self, path: Path, threads: int | None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)  # of the process: a program has no setting of its own
        extra = {KEY: ""}
        try:
            check_archive(path)
            self.program = torch.export.load(path, extra_files=extra).module()
        except UnsafeArchiveError as error:
            raise InputError(
                f"{path}: was not loaded: it holds more than t2tbuild export writes, {error}; loading it could run any "
                "code. Ask its author for .onnx, or write it again with t2tbuild export"
            ) from None
        except Exception as error:  # a damaged archive can raise almost any type
            raise unreadable(path, "a torch.export program", error) from None
        super().__init__(path, _parse(path, extra[KEY]))

    def _run(self, images: Array) -> Array:
        import torch

        with torch.inference_mode():
            logits: Array = self.program(torch.from_numpy(images)).float().numpy()
        return logits


class _OpenVinoModel(ExportedModel):
    runtime, extra = "openvino", "openvino"

    def __init__(self, path: Path, threads: int | None) -> None:
        import openvino

        try:
            core = openvino.Core()
            model = core.read_model(path)
            settings = OPENVINO_SETTINGS | ({} if threads is None else {"INFERENCE_NUM_THREADS": str(threads)})
            self.compiled: Any = core.compile_model(model, "CPU", settings)
        except Exception as error:
            raise unreadable(path, "OpenVINO (.xml beside .bin)", error) from None
        text = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
        super().__init__(path, _parse(path, text))

    def _run(self, images: Array) -> Array:
        return np.asarray(self.compiled(images)[0], np.float32)


OPENVINO_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}
"""Otherwise OpenVINO computes float32 models in bfloat16 on processors that have it."""

SUFFIXES: dict[str, type[ExportedModel]] = {".onnx": _OnnxModel, ".pt2": _TorchExportModel, ".xml": _OpenVinoModel}
"""The class that opens the files of each suffix."""


def is_exported(path: str | Path) -> bool:
    """Return whether a path is a file with the suffix of an exported model."""
    return Path(path).suffix in SUFFIXES and is_file(Path(path))


def open_exported(path: str | Path, *, threads: int | None = None) -> ExportedModel:
    """Open a file that `t2tbuild export` wrote, by its suffix; `threads` limits those of one inference.

    For .pt2 the threads are those of the whole process. Raises InputError for a file that is missing, damaged, of
    another program or of another suffix, and where the package that runs it is missing.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise InputError(f"{path}: not an exported model; name a file that ends in {', '.join(SUFFIXES)}")
    if not is_file(file):
        raise InputError(f"{path}: no such file")
    opened: Any = SUFFIXES[file.suffix]
    package = opened.runtime.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{path}: needs {package} to run: pip install 't2tbuild[{opened.extra}]'")
    model: ExportedModel = opened(file, threads)
    return model


def _parse(path: Path, text: str | None) -> ExportInfo:
    """Return the metadata of a file. Raises InputError if it has none, or of another version."""
    hint = "write the file again with t2tbuild export"
    if not text:
        raise InputError(f"{path}: has no metadata of t2tbuild (classes, preprocessing); {hint}")
    try:
        return parse_metadata(text)
    except ValueError as error:
        raise InputError(f"{path}: {error}; {hint}") from None
