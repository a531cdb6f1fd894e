"""Changes of an ONNX model: preprocessing inside the graph, metadata, and 8-bit integers. Torch-free."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from t2tbuild.weights.preprocessing import LUMA, Array, Preprocessing

INPUT, PIXELS, LOGITS = "images", "pixels", "logits"
"""Names of the input, of the input of a graph with its preprocessing inside, and of the output."""

QUANTIZED_OPERATORS = ("MatMul", "Gemm", "Conv")
"""Operators whose weights become 8-bit integers; softmax, normalisations and the Performer's features stay in float."""

_RESIZE_MODE = {"bilinear": "linear", "bicubic": "cubic"}


def put_preprocessing_inside(model: Any, steps: Preprocessing) -> None:
    """Change an ONNX model so that it takes bytes [batch, height, width, in_chans] and does `steps` itself.

    The bytes are resized as bytes, which ONNX Runtime does as Pillow: few pixels differ, each by one level.
    """
    import onnx

    added = onnx.parser.parse_model(_preprocessing_text(steps)).graph
    model.graph.input[0].CopyFrom(added.input[0])
    own = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*added.node, *own])
    onnx.checker.check_model(model)


def add_metadata(model: Any, metadata: dict[str, str]) -> None:
    """Write texts into the metadata of an ONNX model."""
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)


def remove_traces(model: Any) -> None:
    """Remove what torch writes about the origin of each node: stack traces, with paths of this machine."""
    graphs = [model.graph, *model.functions]
    for one in (*graphs, *(node for graph in graphs for node in graph.node)):
        del one.metadata_props[:]
        one.doc_string = ""


def quantize(model: Any, batches: Sequence[Array]) -> Any:
    """Return an ONNX model with 8-bit integers in QUANTIZED_OPERATORS, calibrated on batches of inputs.

    Weights have a scale for each output channel and 7 bits, since processors without VNNI saturate the sums of 8-bit
    products (ONNX Runtime's advice). Products of two activations, as in attention, stay in float.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.batches: Iterator[Array] = iter(batches)

        def get_next(self) -> dict[str, Array] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    with TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("float.onnx", "prepared.onnx", "int8.onnx")]
        onnx.save(model, files[0])
        quant_pre_process(files[0], files[1], skip_symbolic_shape=True)
        quantize_static(
            files[1],
            files[2],
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPERATORS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(files[2])


def _preprocessing_text(steps: Preprocessing) -> str:
    """Return a graph from PIXELS to INPUT in ONNX's notation; its other names start with "pre_".

    The sizes are those of `Preprocessing.crop`. Half of an odd number is rounded to the even neighbour, as Python does.
    """
    channels, (height, width), (rows, columns) = steps.in_chans, steps.cropped, steps.resized
    mean, std = (", ".join(map(repr, values)) for values in (steps.mean, steps.std))
    if rows == columns:
        resized = f"""
            pre_short = ReduceMin <keepdims = 1> (pre_sides)
            pre_target = Constant <value_ints = [{rows}]> ()
            pre_product = Mul (pre_sides, pre_target)
            pre_resized = Div (pre_product, pre_short)"""
    else:
        resized = f"""
            pre_exact = Cast <to = 11> (pre_sides)
            pre_target = Constant <value = double[2] {{{float(rows)}, {float(columns)}}}> ()
            pre_ratios = Div (pre_exact, pre_target)
            pre_ratio = ReduceMin <keepdims = 1> (pre_ratios)
            pre_scaled = Div (pre_exact, pre_ratio)
            pre_rounded = Round (pre_scaled)
            pre_resized = Cast <to = 7> (pre_rounded)"""
    planes = f"pre_planes = Transpose <perm = [0, 3, 1, 2]> ({PIXELS})"
    if steps.gray and channels == 3:  # as Pillow does
        planes = f"""
            pre_colours = Transpose <perm = [0, 3, 1, 2]> ({PIXELS})
            pre_colour_values = Cast <to = 1> (pre_colours)
            pre_luma = Constant <value = float[1, 3, 1, 1] {{{", ".join(map(str, LUMA))}}}> ()
            pre_weighted = Mul (pre_colour_values, pre_luma)
            pre_channel_axis = Constant <value_ints = [1]> ()
            pre_gray_values = ReduceSum <keepdims = 1> (pre_weighted, pre_channel_axis)
            pre_gray = Round (pre_gray_values)
            pre_planes = Cast <to = 2> (pre_gray)"""
    normalised, enlarged = INPUT, ""
    if steps.shrink is not None:
        normalised, full = "pre_normalised", ", ".join(map(str, steps.image))
        enlarged = f"""
            pre_small_outer = Shape <start = 0, end = 2> (pre_normalised)
            pre_full = Constant <value_ints = [{full}]> ()
            pre_enlarged = Concat <axis = 0> (pre_small_outer, pre_full)
            {INPUT} = Resize <mode = "cubic", cubic_coeff_a = -0.75> (pre_normalised, , , pre_enlarged)"""
    output = f"float[batch, {channels}, {steps.image[0]}, {steps.image[1]}] {INPUT}"
    return f"""<ir_version: 10, opset_import: ["" : 18]>
        preprocessing (uint8[batch, height, width, {channels}] {PIXELS}) => ({output})
        {{
            pre_sides = Shape <start = 1, end = 3> ({PIXELS})
            {resized}
            {planes}
            pre_outer = Shape <start = 0, end = 2> (pre_planes)
            pre_sizes = Concat <axis = 0> (pre_outer, pre_resized)
            pre_bytes = Resize <mode = "{_RESIZE_MODE[steps.interpolation]}", antialias = 1, cubic_coeff_a = -0.5,
                exclude_outside = 1> (pre_planes, , , pre_sizes)
            pre_image = Constant <value_ints = [{height}, {width}]> ()
            pre_rest = Sub (pre_resized, pre_image)
            pre_two = Constant <value_ints = [2]> ()
            pre_half = Div (pre_rest, pre_two)
            pre_odd = Mod (pre_rest, pre_two)
            pre_half_odd = Mod (pre_half, pre_two)
            pre_up = Mul (pre_odd, pre_half_odd)
            pre_corner = Add (pre_half, pre_up)
            pre_opposite = Add (pre_corner, pre_image)
            pre_axes = Constant <value_ints = [2, 3]> ()
            pre_cropped = Slice (pre_bytes, pre_corner, pre_opposite, pre_axes)
            pre_values = Cast <to = 1> (pre_cropped)
            pre_white = Constant <value_float = 255.0> ()
            pre_mean = Constant <value = float[1, {channels}, 1, 1] {{{mean}}}> ()
            pre_std = Constant <value = float[1, {channels}, 1, 1] {{{std}}}> ()
            pre_scaled_values = Div (pre_values, pre_white)
            pre_centred = Sub (pre_scaled_values, pre_mean)
            {normalised} = Div (pre_centred, pre_std)
            {enlarged}
        }}"""
