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
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs on photographs of its own and on the digits, whose images are shrunk first."""
    folder = tmp_path_factory.mktemp("runs")
    photos = write_photos(folder / "photos", train=6, validation=3)
    own = {"kind": "folder", "root": str(photos), "workers": 0, "crop_pct": 0.8, "mean": [0.3], "std": [0.2]}
    digits = {"kind": "digits", "image_size": 16}
    return {
        "folder": make_run(folder / "own", own, {"num_classes": 3, "label_names": CLASSES}),
        "digits": make_run(folder / "digits", digits, {"num_classes": 10}),
    }


def make_run(folder: Path, data: dict[str, object], classes: dict[str, object]) -> Path:
    """Return a run as a training leaves it, with random weights far from each other."""
    model = {
        "name": "small",
        "image_size": 16,
        "tokenizer": {"kind": "patch", "patch_size": 4},
        "backbone": {"depth": 1, "embed_dim": 16, "num_heads": 2, "mlp_ratio": 2},
    }
    spec = Spec.model_validate({"version": 1, "model": model | classes, "train": {"data": data, "batch_size": 4}})
    torch.manual_seed(0)
    built = build_model(spec.model)
    torch.nn.init.normal_(built.get_parameter("head.weight"), std=2)
    checkpoint = folder / "checkpoints" / "step-000000001"
    checkpoint.mkdir(parents=True)
    write_spec(spec, folder / "spec.yaml")
    save_file({key: value.contiguous() for key, value in built.state_dict().items()}, checkpoint / "model.safetensors")
    manifest.write_manifest(checkpoint, ["model.safetensors"])
    return folder


def t2tbuild(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.exception or done.output
    return done.stdout


Scores = list[tuple[str, str, float]]


def predict(model: Path, images: list[Path]) -> Scores:
    """Return the name of the image, the class and its percentage, for three classes of each image."""
    found = json.loads(t2tbuild("predict", model, *images, "--json", "--top", "3"))["images"]
    return [
        (Path(image["image"]).name, score["class"], 100 * score["probability"])
        for image in found
        for score in image["top"]
    ]


def assert_same(actual: Scores, expected: Scores, *, points: float) -> None:
    assert [(name, label) for name, label, _ in actual] == [(name, label) for name, label, _ in expected]
    assert [percent for *_, percent in actual] == pytest.approx([percent for *_, percent in expected], abs=points)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "inside"),
    [("folder", True), ("folder", False), ("digits", False), pytest.param("digits", True, marks=pytest.mark.nightly)],
)
def test_the_script_prints_what_predict_finds(
    data: str, inside: bool, python: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    run, file = runs[data], tmp_path / "model.onnx"
    t2tbuild("export", run, "--out", file, *(["--preprocess"] if inside else []))
    (tmp_path / "run.py").write_text(code_blocks(ROOT / "docs" / "deploy.md", "python")[0])
    images = [tmp_path / f"{index}.png" for index in range(2)]
    for path, pixels in zip(images, load_sample_images().images, strict=True):
        Image.fromarray(pixels).save(path)

    absent = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, cwd=tmp_path)
    assert "No module named 'torch'" in absent.stderr
    script = [python, "run.py", "model.onnx", *(path.name for path in images)]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    printed = [(name, label, float(percent.rstrip("%"))) for name, label, percent in lines]
    expected = predict(run, images)
    assert_same(printed, expected, points=1 if inside else 0.1)
    assert_same(predict(file, images), expected, points=1 if inside else 0.01)
