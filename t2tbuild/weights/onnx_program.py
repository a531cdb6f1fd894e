"""A built model as an ONNX program, for any batch size."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.onnx import ONNXProgram


def onnx_program(built: nn.Module, images: Tensor) -> ONNXProgram:
    """Return the program of a built model. `images` is an example [at least 2, in_chans, height, width]."""
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.onnx.export(
            built,
            (images,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            optimize=False,  # its rewriter treats 1e-8, the Performer's epsilon, as zero and removes it
            verbose=False,
        )
    assert program is not None
    return program


def save_untrained_onnx(built: nn.Module, path: Path, in_chans: int, height: int, width: int) -> None:
    """Write a built model to an ONNX file whose logits mean nothing, to be timed."""
    images = torch.randn(2, in_chans, height, width, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():  # torch's exporter warns of its own deprecations
        warnings.simplefilter("ignore")
        onnx_program(built.eval(), images).save(path, external_data=False)
