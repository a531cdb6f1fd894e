"""Write a whole model as a torch.export program, as ONNX or for OpenVINO, with its metadata."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.weights.metadata import ExportInfo
from t2tbuild.weights.onnx_graph import INPUT, LOGITS, add_metadata, put_preprocessing_inside, quantize, remove_traces
from t2tbuild.weights.openvino_graph import with_preprocessing
from t2tbuild.weights.preprocessing import LUMA, Array, Preprocessing

LogitsFunction = Callable[[Array], Array]
"""From a batch of inputs to the logits [batch, classes]."""


@dataclass(frozen=True)
class Int8:
    """How a model is quantized.

    Attributes:
        batches: Normalised images [batch, in_chans, height, width] of the training data, for calibration.
        check: Called with the logits' function of the written file, loaded again, which takes such images; it raises
            an error to refuse the export.
    """

    batches: Sequence[Array]
    check: Callable[[LogitsFunction], None]


class HalfModel(nn.Module):
    """A copy of a model in float16 that takes and returns float32. The Performer computes its features in float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).half()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.half()).float()
        return logits


class WithPreprocessing(nn.Module):
    """A model that takes bytes [batch, height, width, in_chans] and does its preprocessing itself, as Pillow does."""

    mean: Tensor
    std: Tensor
    luma: Tensor

    def __init__(self, model: nn.Module, steps: Preprocessing) -> None:
        super().__init__()
        self.model, self.steps = model, steps
        self.register_buffer("mean", torch.tensor(steps.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(steps.std).view(-1, 1, 1))
        self.register_buffer("luma", torch.tensor(LUMA).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        size: list[Any]  # symbolic while the program is traced
        images = pixels.permute(0, 3, 1, 2)
        if self.steps.gray and self.steps.in_chans == 3:
            images = (images * self.luma).sum(1, keepdim=True).round().to(torch.uint8)  # as Pillow does
        height, width = images.shape[2:]
        rows, columns = self.steps.resized
        if rows == columns:
            short: Any = torch.sym_min(height, width)
            size = [rows * height // short, rows * width // short]
        else:
            size = [
                torch.sym_max(rows, round_ratio(height * columns, width)),
                torch.sym_max(columns, round_ratio(width * rows, height)),
            ]
        images = F.interpolate(images, size=size, mode=self.steps.interpolation, antialias=True)
        for axis, (side, wanted) in enumerate(zip(size, self.steps.cropped, strict=True), start=2):
            rest = side - wanted
            half = rest // 2
            start = half + (rest % 2) * (half % 2)  # half of an odd number is rounded to the even neighbour
            # a slice would bind the program to images of this orientation
            images = images.index_select(axis, torch.arange(wanted, device=images.device) + start)
        normalised = (images / 255 - self.mean) / self.std
        if self.steps.shrink is not None:
            normalised = F.interpolate(normalised, size=self.steps.image, mode="bicubic")
        logits: Tensor = self.model(normalised)
        return logits


def round_ratio(dividend: Any, divisor: Any) -> Any:
    """Return a ratio of whole numbers, rounded as Python does; torch.export can save no round()."""
    rounded, rest = (2 * dividend + divisor) // (2 * divisor), (2 * dividend + divisor) % (2 * divisor)
    is_tie = 1 - torch.sym_min(rest, 1)  # symbolic while the program is traced
    return rounded - is_tie * (rounded % 2)


def save_torch_export(whole: nn.Module, path: Path, info: ExportInfo) -> None:
    """Write a torch.export program for any batch size."""
    steps, batch = info.preprocessing, torch.export.Dim("batch", min=1)
    shapes: dict[int, Any] = {0: batch}
    example = torch.zeros(2, steps.in_chans, *steps.image)
    if steps.inside:
        whole = WithPreprocessing(whole, steps).eval()
        example = torch.zeros(2, 301, 403, steps.in_chans, dtype=torch.uint8)
        shapes |= {1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
    with torch.no_grad():
        program = torch.export.export(whole, (example,), dynamic_shapes=(shapes,))
    torch.export.save(program, path, extra_files=info.to_metadata())


def save_onnx(whole: nn.Module, path: Path, info: ExportInfo, int8: Int8 | None) -> None:
    """Write an ONNX model for any batch size."""
    proto = _to_onnx(whole, info, int8)
    if info.preprocessing.inside:
        put_preprocessing_inside(proto, info.preprocessing)
    add_metadata(proto, info.to_metadata())
    _save(proto, path)


def _save(proto: Any, path: Path) -> None:
    import onnx

    onnx.save(proto, path)


def _to_onnx(whole: nn.Module, info: ExportInfo, int8: Int8 | None) -> Any:
    """Return a model of normalised images in ONNX, quantized if `int8` is given."""
    steps, batch = info.preprocessing, torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.onnx.export(
            whole,
            (torch.zeros(2, steps.in_chans, *steps.image),),
            input_names=[INPUT],
            output_names=[LOGITS],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            optimize=False,  # its rewriter treats 1e-8, the Performer's epsilon, as zero and removes it
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    remove_traces(proto)
    return proto if int8 is None else quantize(proto, int8.batches)


def save_openvino(whole: nn.Module, path: Path, info: ExportInfo, int8: Int8 | None) -> None:
    """Write a model for OpenVINO: `path`, an .xml, and its weights beside it."""
    import openvino

    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        _save(_to_onnx(whole, info, int8), file)
        converted = openvino.convert_model(file)
        if info.preprocessing.inside:
            converted = with_preprocessing(converted, info.preprocessing)
        for key, value in info.to_metadata().items():
            converted.set_rt_info(value, [key])
        openvino.save_model(converted, path, compress_to_fp16=False)
