"""Exported files on images that other data normalised, and the sessions that run them."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from t2tbuild.errors import T2TBuildError
from t2tbuild.weights.exported import ExportedModel, open_exported
from t2tbuild.weights.metadata import ExportInfo
from t2tbuild.weights.normalized import OnNormalized
from t2tbuild.weights.onnx_graph import add_metadata
from t2tbuild.weights.onnx_session import open_session
from t2tbuild.weights.preprocessing import Preprocessing

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)
GRAPHS = {
    False: "g (float[b, 3, 8, 8] images) => (float[b, 3] logits) "
    "{ axes = Constant <value_ints = [2, 3]> () logits = ReduceMean <keepdims = 0> (images, axes) }",
    True: "g (uint8[b, h, w, 3] pixels) => (float[b, 3] logits) { axes = Constant <value_ints = [1, 2]> () "
    "values = Cast <to = 1> (pixels) logits = ReduceMean <keepdims = 0> (values, axes) }",
}


def write(folder: Path, *, inside: bool) -> ExportedModel:
    """A file that returns the mean of each channel of its input."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {GRAPHS[inside]}')
    add_metadata(model, ExportInfo("mean", None, Preprocessing((8, 8), 3, MEAN, STD, inside=inside)).to_metadata())
    onnx.save(model, folder / "mean.onnx")
    return open_exported(folder / "mean.onnx", threads=1)


@pytest.mark.parametrize("inside", [False, True])
def test_images_are_normalised_by_the_file_whatever_their_data(inside: bool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8)).astype(np.float32)
    of_data = (pixels / 255 - 0.1) / 0.7
    found = OnNormalized(write(tmp_path, inside=inside), (0.1,) * 3, (0.7,) * 3)(of_data)
    means = pixels.mean((2, 3))
    np.testing.assert_allclose(found, means if inside else (means / 255 - MEAN) / STD, rtol=1e-4)


def test_enlarged_images_are_given_as_the_bytes_that_they_come_from(tmp_path: Path) -> None:
    steps = Preprocessing((24, 40), 3, MEAN, STD, shrink=8, inside=True)
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {GRAPHS[True]}')
    add_metadata(model, ExportInfo("mean", None, steps).to_metadata())
    onnx.save(model, tmp_path / "mean.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    images = np.stack([steps.normalize(one) for one in pixels])
    assert images.shape == (2, 3, 24, 40)
    found = OnNormalized(open_exported(tmp_path / "mean.onnx", threads=1))(images)
    np.testing.assert_allclose(found, pixels.mean((1, 2)), rtol=1e-5)


def test_an_input_of_another_shape_has_one_message(tmp_path: Path) -> None:
    model = write(tmp_path, inside=False)
    expected = r"cannot run it on float32 of shape \[1, 3, 9, 9\]; it expects float32 of shape \[batch, 3, 8, 8\]: "
    with pytest.raises(T2TBuildError, match=expected) as raised:
        model(np.zeros((1, 3, 9, 9), np.float32))
    assert str(raised.value).startswith(f"{tmp_path}")
    assert len(str(raised.value).splitlines()) == 1


def test_the_threads_of_a_session_sleep_between_inferences(tmp_path: Path) -> None:
    write(tmp_path, inside=False)
    options = open_session(tmp_path / "mean.onnx", 2).get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert options.intra_op_num_threads == 2
