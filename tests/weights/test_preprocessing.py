"""The preprocessing of exported models is that of evaluation: with Pillow alone, in an ONNX graph, and in torch."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import ExifTags, Image
from sklearn.datasets import load_sample_image
from torch import nn

from t2tbuild.layout import Grid
from t2tbuild.spec import Spec
from t2tbuild.spec.data import FolderData
from t2tbuild.training.data.transforms import channel_statistics, evaluation_transform
from t2tbuild.training.preprocessing import find_preprocessing
from t2tbuild.weights.onnx_graph import INPUT, PIXELS, put_preprocessing_inside
from t2tbuild.weights.preprocessing import Array, Preprocessing
from t2tbuild.weights.whole_model import PixelModel

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
def test_the_graph_and_torch_resize_as_pillow(case: tuple[dict[str, object], tuple[int, int], int]) -> None:
    steps, _ = preprocessing(*case)
    session = onnxruntime.InferenceSession(identity_with(steps).SerializeToString())
    module = PixelModel(nn.Identity(), steps)
    scale = (np.asarray(steps.std) * 255).reshape(-1, 1, 1)
    for image in IMAGES:
        pixels = steps.read_pixels(image)[None]
        expected = steps.normalize(steps.crop_pixels(image))
        of_onnx, of_torch = session.run(None, {PIXELS: pixels})[0][0], module(torch.from_numpy(pixels))[0].numpy()
        for actual, most in ((of_onnx, 1.01), (of_torch, 2.01)):
            levels = np.abs(actual - expected) * scale
            assert levels.max() < most
            assert (levels > 0.5).mean() < 0.01


def identity_with(steps: Preprocessing) -> onnx.ModelProto:
    """Return a model that returns its input, with its preprocessing inside."""
    shape = f"float[batch, {steps.in_chans}, {steps.image[0]}, {steps.image[1]}]"
    graph = f"g ({shape} {INPUT}) => ({shape} same) {{ same = Identity ({INPUT}) }}"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {graph}')
    put_preprocessing_inside(model, steps)
    return model


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
