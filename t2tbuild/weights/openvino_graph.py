"""Preprocessing inside an OpenVINO model. Torch-free.

OpenVINO resizes as Pillow in modes of its own; it ignores the antialias of ONNX, so that a converted graph would give
other pixels.
"""

from typing import Any

import numpy as np

from t2tbuild.weights.onnx_graph import PIXELS
from t2tbuild.weights.preprocessing import LUMA, Preprocessing


def with_preprocessing(model: Any, steps: Preprocessing) -> Any:
    """Return an OpenVINO model that takes bytes [batch, height, width, in_chans] and does `steps` before `model`."""
    import openvino
    from openvino import opset13 as ops

    pixels = ops.parameter([-1, -1, -1, steps.in_chans], np.uint8, name=PIXELS)
    pixels.output(0).set_names({PIXELS})
    planes = ops.transpose(pixels, _integers(0, 3, 1, 2))
    if steps.gray and steps.in_chans == 3:  # as Pillow does
        weighted = ops.multiply(ops.convert(planes, "f32"), _per_channel(LUMA))
        planes = ops.convert(ops.round(ops.reduce_sum(weighted, _integers(1), True), "half_to_even"), "u8")
    size = _resized(planes, steps)
    resized = ops.interpolate(planes, size, f"{steps.interpolation}_pillow", "sizes", axes=_integers(2, 3))
    image, two = _integers(*steps.cropped), _integers(2)
    rest = ops.subtract(size, image)
    half = ops.divide(rest, two)
    corner = ops.add(half, ops.multiply(ops.mod(rest, two), ops.mod(half, two)))  # half of an odd number goes to even
    cropped = ops.slice(resized, corner, ops.add(corner, image), _integers(1, 1), _integers(2, 3))
    values = ops.divide(ops.convert(cropped, "f32"), np.float32(255))
    images = ops.divide(ops.subtract(values, _per_channel(steps.mean)), _per_channel(steps.std))
    if steps.shrink is not None:
        full = _integers(*steps.image)
        images = ops.interpolate(images, full, "cubic", "sizes", axes=_integers(2, 3), cube_coeff=-0.75)
    for target in model.get_parameters()[0].output(0).get_target_inputs():
        target.replace_source_output(images.output(0))
    return openvino.Model(model.get_results(), [pixels], model.get_friendly_name())


def _resized(planes: Any, steps: Preprocessing) -> Any:
    """Return the size [height, width] of `Preprocessing.crop` for images [batch, channels, height, width]."""
    from openvino import opset13 as ops

    sides = ops.gather(ops.shape_of(planes), _integers(2, 3), np.array(0))
    rows, columns = steps.resized
    if rows == columns:
        return ops.divide(ops.multiply(sides, _integers(rows)), ops.reduce_min(sides, _integers(0), True))
    exact = ops.convert(sides, "f64")
    ratio = ops.reduce_min(ops.divide(exact, np.array([rows, columns], np.float64)), _integers(0), True)
    return ops.convert(ops.round(ops.divide(exact, ratio), "half_to_even"), "i64")


def _integers(*values: int) -> Any:
    return np.array(values, np.int64)


def _per_channel(values: tuple[float, ...]) -> Any:
    return np.array(values, np.float32).reshape(1, -1, 1, 1)
