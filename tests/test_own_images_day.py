"""A user's day: docs/own_images.md from a folder of photographs to an exported model."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from t2tbuild import load_spec
from t2tbuild.spec import ModelSpec
from tests.command import run_t2tbuild

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

CLASSES = ("dahlia", "digits", "temple")
QUICK = [
    "search.trials=1",
    "search.proxy.rungs=[2, 4]",
    "search.proxy.seeds=1",
    "search.proxy.data.image_size=32",
    "search.confirm=null",
    "search.zero_cost.names=[]",
    "search.space={backbone.depth: {fill: [0.8, 1.0]}}",
]


def write_photographs(root: Path, count: int) -> None:
    """Write crops of real images in mixed sizes and modes, one of them truncated."""
    random, digits = np.random.default_rng(0), load_digits().images
    sheet = np.vstack([np.hstack(list(digits[row : row + 20])) for row in range(0, 200, 20)]) * 15
    pictures = [load_sample_image("flower.jpg"), np.kron(sheet, np.ones((3, 3))), load_sample_image("china.jpg")]
    for name, pixels in zip(CLASSES, pictures, strict=True):
        picture, folder = Image.fromarray(pixels.astype(np.uint8)).convert("RGB"), root / name
        folder.mkdir(parents=True)
        (folder / ".DS_Store").write_bytes(b"x")
        for number in range(count):
            width, height = random.integers(60, 160, 2)
            left, top = random.integers(0, picture.width - width), random.integers(0, picture.height - height)
            write_photograph(picture.crop((left, top, left + width, top + height)), folder, number)
    cut = root / "temple" / "005.jpg"
    cut.write_bytes(cut.read_bytes()[:600])


def write_photograph(image: Image.Image, folder: Path, number: int) -> None:
    """Write an image as a camera, a scanner or a program would, by its number."""
    path = folder / f"{number:03}.jpg"
    match number % 5:
        case 1:
            image.convert("L").save(path)
        case 2:
            image.convert("RGBA").save(path.with_suffix(".png"))
        case 3:
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path.with_suffix(".png"))
        case 4:
            turned = Image.Exif()
            turned[0x0112] = 6
            image.rotate(90, expand=True).save(path, exif=turned)
        case _:
            image.save(path)


@pytest.mark.slow
@pytest.mark.nightly
def test_photographs_become_an_exported_model(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 20)

    def run(*words: str) -> str:
        done = run_t2tbuild(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    described = json.loads(run_t2tbuild("data", "photos", "--json", "--sheet", "sheet.png", cwd=tmp_path).stdout)
    assert "005.jpg" in json.dumps(described)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 200

    options = ["--data", "photos", "--budget-macs", "800M", "--workers", "1", "--out", "runs/search"]
    assert "train runs/search/best.yaml" in run("search", *QUICK, *options)
    best = load_spec(tmp_path / "runs" / "search" / "best.yaml")
    assert isinstance(best.model, ModelSpec)
    assert (best.model.num_classes, best.model.image_size) == (3, 224)
    assert best.train is not None
    assert best.train.data.kind == "folder"

    fast = ["--epochs", "1", "--image-size", "32", "--batch-size", "16"]
    trained = run("train", "runs/search/best.yaml", *fast, "--out", "runs/winner")
    assert "3 classes (dahlia, digits, temple)" in trained
    assert "validation accuracy" in trained
    assert "test accuracy" not in trained
    assert load_spec(tmp_path / "runs" / "winner" / "spec.yaml").model.label_names == CLASSES

    assert "top-1" in run("evaluate", "runs/winner", "--out", "runs/winner")
    with (tmp_path / "runs" / "winner" / "confusion.csv").open() as stream:
        counts = [[int(count) for count in row[1:]] for row in list(csv.reader(stream))[1:]]
    assert np.array(counts).sum() == 6  # a tenth of each class is held out

    run("export", "runs/winner", "--out", "winner.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "winner.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, 32, 32), np.float32)})[0].shape == (1, 3)
    assert json.loads(session.get_modelmeta().custom_metadata_map["label_names"]) == list(CLASSES)
