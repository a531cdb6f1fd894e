"""A real pretrained model in `evaluate` and `visualize --against`: EfficientNet-Lite0 on two photographs."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from t2tbuild.spec.data import IMAGENET_MEAN, IMAGENET_STD
from tests.command import run_t2tbuild
from tests.pretrained import efficientnet_lite0_weights

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
PHOTOGRAPHS = {"palace": ("china.jpg", 698), "daisy": ("flower.jpg", 985)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spec with the weights and names of classes, and a folder of the photographs by class."""
    names = [f"class {label}" for label in range(1000)]
    for name, (file, label) in PHOTOGRAPHS.items():
        names[label] = name
        (tmp_path / "photos" / "val" / name).mkdir(parents=True)
        Image.fromarray(load_sample_image(file)).save(tmp_path / "photos" / "val" / name / "0.png")
    save_file(efficientnet_lite0_weights(), tmp_path / "lite0.safetensors")
    model = {"kind": "timm", "name": "tf_efficientnet_lite0", "label_names": names}
    text = yaml.safe_dump({"version": 1, "model": model, "weights": "lite0.safetensors"})
    (tmp_path / "lite0.yaml").write_text(text)
    return tmp_path


def test_evaluate_knows_both_photographs(folder: Path) -> None:
    found = evaluate(folder)  # normalised by timm's mean and deviation of this model, 0.5
    assert found["top1"] == 1.0, found
    half, imagenet = (
        [f"train.data.mean={list(mean)}", f"train.data.std={list(std)}"]
        for mean, std in (((0.5,) * 3, (0.5,) * 3), (IMAGENET_MEAN, IMAGENET_STD))
    )
    assert evaluate(folder, *half)["loss"] == found["loss"]
    assert evaluate(folder, *imagenet)["loss"] != found["loss"]


def evaluate(folder: Path, *overrides: str) -> dict[str, Any]:
    done = run_t2tbuild("evaluate", "lite0.yaml", *overrides, "--data", "photos", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_visualize_compares_its_features(folder: Path) -> None:
    arguments = ["t2t_vit_7", "model.image_size=64", "--what", "features", "--against", "lite0.yaml", "--out", "seen"]
    done = run_t2tbuild("visualize", *arguments, "--image", "photos/val/palace/0.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "seen" / "features_against.png").stat().st_size > 10_000
