"""The script of docs/deploy.md runs exported files in an environment without torch and without t2tbuild."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from t2tbuild import build_model
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.weights.export import export_model
from t2tbuild.weights.exported import open_exported
from t2tbuild.weights.formats import Format
from t2tbuild.weights.preprocessing import Preprocessing
from tests.documents import ROOT, code_blocks

NAMES = ("ant", "bee", "cow", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with onnxruntime and Pillow."""
    folder = tmp_path_factory.mktemp("environment") / "bare"
    uv = [sys.executable, "-m", "uv"]
    if subprocess.run([*uv, "--version"], capture_output=True).returncode:
        uv = ["uv"]
    program = folder / "bin" / "python"
    try:
        subprocess.run([*uv, "venv", "--python", sys.executable, folder], capture_output=True, check=True, text=True)
        install = [*uv, "pip", "install", "--python", program, "onnxruntime", "pillow", "numpy"]
        subprocess.run(install, capture_output=True, check=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no environment can be made: {getattr(error, 'stderr', error)}")
    return program


@pytest.mark.slow
@pytest.mark.parametrize("inside", [True, False])
def test_the_script_prints_the_classes_of_the_model(
    inside: bool, python: Path, small: ModelSpec, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    spec = with_changes(small, {"label_names": NAMES}, "a test")
    model = build_model(spec)
    torch.nn.init.normal_(model.get_parameter("head.weight"), std=2)
    file = tmp_path / "model.onnx"
    steps = Preprocessing((32, 32), 3, (0.4,) * 3, (0.2,) * 3, 0.9, inside=inside)
    export_model(spec, model, file, Format.ONNX, preprocessing=steps)
    (tmp_path / "run.py").write_text(code_blocks(ROOT / "docs" / "deploy.md", "python")[0])
    photographs = list(map(Image.fromarray, load_sample_images().images))
    for index, image in enumerate(photographs):
        image.save(tmp_path / f"{index}.png")

    absent = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, cwd=tmp_path)
    assert "No module named 'torch'" in absent.stderr
    done = subprocess.run(
        [python, "run.py", "model.onnx", "0.png", "1.png"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    probabilities = torch.from_numpy(open_exported(file).logits(photographs)).softmax(1)
    expected = [
        f"{index}.png {NAMES[label]} {value:.1%}"
        for index, row in enumerate(probabilities)
        for value, label in zip(*row.topk(3), strict=True)
    ]
    assert done.stdout.splitlines() == expected
