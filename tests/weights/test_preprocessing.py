"""The preprocessing of exported models is that of evaluation: with Pillow alone, in an ONNX graph, and in torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import ExifTags, Image
from sklearn.datasets import load_sample_image
from torch import nn

from t2tbuild.image_mode import to_mode
from t2tbuild.layout import Grid
from t2tbuild.spec import Spec
from t2tbuild.spec.data import FolderData
from t2tbuild.training.data.evaluation_input import evaluation_input
from t2tbuild.training.data.transforms import channel_statistics, evaluation_transform
from t2tbuild.training.preprocessing import find_preprocessing
from t2tbuild.weights.exported import open_exported
from t2tbuild.weights.metadata import ExportInfo
from t2tbuild.weights.onnx_graph import INPUT, PIXELS, put_preprocessing_inside
from t2tbuild.weights.openvino_graph import with_preprocessing
from t2tbuild.weights.preprocessing import Array, Preprocessing
from t2tbuild.weights.whole_model import WithPreprocessing, round_ratio, save_torch_export

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

CHINA, FLOWER = (Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))
IMAGES = [CHINA, FLOWER.rotate(90, expand=True), FLOWER.resize((61, 47)), CHINA.crop((3, 5, 400, 418))]
"""Landscape, portrait, smaller than the model's image, and with sides that no crop divides."""

CASES = [
    ({"crop_pct": 0.9}, (224, 224), 3),
    ({"crop_pct": 0.875, "interpolation": "bilinear"}, (65, 65), 3),
    ({"crop_pct": 0.93, "mean": [0.5], "std": [0.25]}, (192, 256), 3),
    ({"crop_pct": 1, "interpolation": "bilinear"}, (70, 33), 1),
]


def preprocessing(fields: dict[str, object], image: tuple[int, int], in_chans: int) -> tuple[Preprocessing, FolderData]:
    data = FolderData.model_validate({"kind": "folder", "root": "."} | fields)
    model = {"name": "t", "kind": "timm", "image_size": list(image), "in_chans": in_chans}
    spec = Spec.model_validate({"version": 1, "model": model, "train": {"data": data.model_dump()}})
    return find_preprocessing(spec, None), data


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_transform_of_evaluation(case: tuple[dict[str, object], tuple[int, int], int]) -> None:
    steps, data = preprocessing(*case)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in channel_statistics(data, steps.in_chans))
    transform = evaluation_transform(data, Grid(*steps.image))
    for image in IMAGES:
        pixels, _ = transform(image.convert("L") if steps.in_chans == 1 else image)
        assert np.array_equal(steps.crop_pixels(image), pixels.permute(1, 2, 0).numpy())
        expected = (pixels.float() / 255 - mean) / std
        torch.testing.assert_close(torch.from_numpy(steps.prepare(image)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_graphs_and_torch_resize_as_pillow(
    case: tuple[dict[str, object], tuple[int, int], int], tmp_path: Path
) -> None:
    steps, _ = preprocessing(*case)
    session = onnxruntime.InferenceSession(identity_with(steps).SerializeToString())
    of_openvino, module = openvino_identity(steps, tmp_path), WithPreprocessing(nn.Identity(), steps)
    scale = (np.asarray(steps.std) * 255).reshape(-1, 1, 1)
    for image in IMAGES:
        pixels = steps.read_pixels(image)[None]
        expected = steps.normalize(steps.crop_pixels(image))
        of_onnx, of_torch = session.run(None, {PIXELS: pixels})[0][0], module(torch.from_numpy(pixels))[0].numpy()
        # OpenVINO rounds halves otherwise, of which images that are enlarged by bilinear have many
        found = ((of_onnx, 1.01, 0.01), (of_openvino(pixels)[0], 1.01, 0.02), (of_torch, 2.01, 0.01))
        for actual, most, share in found:
            levels = np.abs(actual - expected) * scale
            assert levels.max() < most
            assert (levels > 0.5).mean() < share


SMALL = [
    Preprocessing((80, 80), 3, (0.49, 0.48, 0.45), (0.2, 0.21, 0.22), shrink=32),
    Preprocessing((30, 48), 3, (0.3,) * 3, (0.38,) * 3, shrink=8, gray=True),
    Preprocessing((16, 16), 1, (0.3,), (0.38,), shrink=8, gray=True),
]
"""As of models that were trained on CIFAR and on the digits."""


@pytest.mark.parametrize("steps", SMALL)
def test_images_are_shrunk_and_enlarged_alike_with_pillow_in_torch_and_in_the_graphs(
    steps: Preprocessing, tmp_path: Path
) -> None:
    session = onnxruntime.InferenceSession(identity_with(steps).SerializeToString())
    of_training, module = evaluation_input(steps), WithPreprocessing(nn.Identity(), steps)
    of_openvino = openvino_identity(steps, tmp_path)
    scale = (np.asarray(steps.std) * 255).reshape(-1, 1, 1)
    for image in IMAGES:
        expected = steps.prepare(image)
        assert expected.shape == (steps.in_chans, *steps.image)
        pixels, _ = of_training.transform(to_mode(image, of_training.mode))
        in_torch = of_training.prepare(pixels[None])[0].numpy()
        np.testing.assert_allclose(expected, in_torch, rtol=0, atol=1e-5)
        colours = np.array(image if steps.in_chans == 3 else image.convert("L"))
        given = np.ascontiguousarray(colours.reshape(1, image.height, image.width, steps.in_chans))
        of_graph = session.run(None, {PIXELS: given})[0][0]
        of_torch = module(torch.from_numpy(given))[0].numpy()
        for actual, most in ((of_graph, 1.5), (of_openvino(given)[0], 1.5), (of_torch, 3)):
            assert (np.abs(actual - expected) * scale).max() < most


def plain_identity(steps: Preprocessing) -> onnx.ModelProto:
    """Return a model that returns its normalised input."""
    shape = f"float[batch, {steps.in_chans}, {steps.image[0]}, {steps.image[1]}]"
    graph = f"g ({shape} {INPUT}) => ({shape} same) {{ same = Identity ({INPUT}) }}"
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {graph}')


def identity_with(steps: Preprocessing) -> onnx.ModelProto:
    """Return a model that returns its input, with its preprocessing inside."""
    model = plain_identity(steps)
    put_preprocessing_inside(model, steps)
    return model


def openvino_identity(steps: Preprocessing, folder: Path) -> Callable[[Array], Array]:
    """Return the same for OpenVINO, as a function."""
    openvino = pytest.importorskip("openvino")
    onnx.save(plain_identity(steps), folder / "identity.onnx")
    model = with_preprocessing(openvino.convert_model(folder / "identity.onnx"), steps)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: np.asarray(compiled(pixels)[0])


def test_a_torch_export_program_of_an_oblong_image_has_its_preprocessing_inside(tmp_path: Path) -> None:
    steps = Preprocessing((48, 64), 3, (0.5,) * 3, (0.25,) * 3, 0.9, inside=True)
    save_torch_export(nn.Flatten(), tmp_path / "flat.pt2", ExportInfo("flat", None, steps))
    model = open_exported(tmp_path / "flat.pt2")
    for image in IMAGES:
        levels = np.abs(model.logits([image]).ravel() - steps.normalize(steps.crop_pixels(image)).ravel()) * 0.25 * 255
        assert levels.max() < 2.01


@pytest.mark.parametrize("dividend", [0, 5, 7, 15, 25, 35, 36])
def test_ratios_are_rounded_as_python_does(dividend: int) -> None:
    assert round_ratio(dividend, 10) == round(dividend / 10)


def test_images_are_turned_upright_and_have_the_models_channels() -> None:
    turned = FLOWER.copy()
    turned.getexif()[ExifTags.Base.Orientation] = 6  # a camera held on its side
    steps = Preprocessing((32, 32), 3, (0.5,) * 3, (0.5,) * 3)
    assert steps.read_pixels(turned).shape == (FLOWER.width, FLOWER.height, 3)
    gray: Array = Preprocessing((32, 32), 2, (0.5,) * 2, (0.5,) * 2).prepare(FLOWER)
    assert gray.shape == (2, 32, 32)
    assert np.array_equal(gray[0], gray[1])


def test_the_digits_and_models_without_a_recipe() -> None:
    digits = Spec.model_validate({"version": 1, "model": DIGITS, "train": {}})
    found = find_preprocessing(digits, None)
    assert found.mean == pytest.approx((0.305,) * 3, abs=0.01)  # 4.88 of 16
    assert (found.crop_pct, found.image) == (1, (64, 64))
    paper = find_preprocessing(Spec.model_validate({"version": 1, "model": DIGITS}), None)
    assert (paper.mean[0], paper.crop_pct, paper.interpolation) == (0.485, 0.9, "bicubic")


DIGITS = {
    "name": "small",
    "image_size": 64,
    "tokenizer": {"kind": "patch", "patch_size": 16},
    "backbone": {"depth": 1, "embed_dim": 16, "num_heads": 1, "mlp_ratio": 1},
}
