"""The script of docs/deploy.md gives a run's classes in an environment without torch and without t2tbuild."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from typer.testing import CliRunner

from t2tbuild import build_model, manifest
from t2tbuild.cli import app
from t2tbuild.spec.root import Spec
from t2tbuild.spec.write import write_spec
from tests.documents import ROOT, code_blocks
from tests.training.photos import write_photos

CLASSES = ("class0", "class1", "class2")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with onnxruntime and Pillow. Without network the test is skipped, but not in CI."""
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
        reason = f"no environment can be made: {getattr(error, 'stderr', None) or error}"
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    return program


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on photographs of its own, as a training leaves it, with random weights far from each other."""
    folder = tmp_path_factory.mktemp("runs")
    photos = write_photos(folder / "photos", train=6, validation=3)
    data = {"kind": "folder", "root": str(photos), "workers": 0, "crop_pct": 0.8, "mean": [0.3], "std": [0.2]}
    model = {
        "name": "small",
        "image_size": 16,
        "num_classes": 3,
        "label_names": CLASSES,
        "tokenizer": {"kind": "patch", "patch_size": 4},
        "backbone": {"depth": 1, "embed_dim": 16, "num_heads": 2, "mlp_ratio": 2},
    }
    spec = Spec.model_validate({"version": 1, "model": model, "train": {"data": data, "batch_size": 4}})
    torch.manual_seed(0)
    built = build_model(spec.model)
    torch.nn.init.normal_(built.get_parameter("head.weight"), std=2)
    checkpoint = folder / "run" / "checkpoints" / "step-000000001"
    checkpoint.mkdir(parents=True)
    write_spec(spec, folder / "run" / "spec.yaml")
    save_file({key: value.contiguous() for key, value in built.state_dict().items()}, checkpoint / "model.safetensors")
    manifest.write_manifest(checkpoint, ["model.safetensors"])
    return folder / "run"


def t2tbuild(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.exception or done.output
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("inside", [True, False])
def test_the_script_prints_what_predict_finds(inside: bool, python: Path, run: Path, tmp_path: Path) -> None:
    t2tbuild("export", run, "--out", tmp_path / "model.onnx", *(["--preprocess"] if inside else []))
    (tmp_path / "run.py").write_text(code_blocks(ROOT / "docs" / "deploy.md", "python")[0])
    names = [f"{index}.png" for index in range(2)]
    for name, pixels in zip(names, load_sample_images().images, strict=True):
        Image.fromarray(pixels).save(tmp_path / name)

    absent = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, cwd=tmp_path)
    assert "No module named 'torch'" in absent.stderr
    done = subprocess.run([python, "run.py", "model.onnx", *names], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [line.split() for line in done.stdout.splitlines()]
    predicted = json.loads(t2tbuild("predict", run, *(tmp_path / name for name in names), "--json", "--top", "3"))
    expected = [
        (Path(image["image"]).name, score["class"], score["probability"])
        for image in predicted["images"]
        for score in image["top"]
    ]
    assert [(name, label) for name, label, _ in found] == [(name, label) for name, label, _ in expected]
    for (*_, percent), (*_, probability) in zip(found, expected, strict=True):
        assert float(percent.rstrip("%")) == pytest.approx(100 * probability, abs=1 if inside else 0.1)
