"""t2tbuild export: options, messages, what it prints, and 8-bit integers on a run's own data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from t2tbuild import build_model, load_spec, load_weights, train
from t2tbuild.errors import InputError
from t2tbuild.spec import ModelSpec, Spec
from t2tbuild.spec.weights import Weights
from t2tbuild.training.calibration import Calibration
from t2tbuild.training.evaluate import evaluate_weights
from t2tbuild.weights.export import export_model
from t2tbuild.weights.exported import open_exported
from t2tbuild.weights.formats import Format
from t2tbuild.weights.normalized import OnNormalized
from t2tbuild.weights.preprocessing import Preprocessing
from t2tbuild.weights.whole_model import Int8, LogitsFunction
from tests.cli.exports import export, refusal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned the digits a little."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    model = {
        "name": "small",
        "tokenizer": {"kind": "patch", "patch_size": 8},
        "backbone": {"depth": 2, "embed_dim": 48, "num_heads": 2, "mlp_ratio": 2},
    }
    recipe = {"epochs": 2, "batch_size": 32, "lr": 4e-3, "data": {"image_size": 32, "augment": False}}
    train(Spec.model_validate({"version": 1, "model": model, "train": recipe}), folder)
    return folder


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    wrong = refusal("t2t_vit_7", "--preprocess", "--out", tmp_path / "m.safetensors")
    assert "--preprocess is for --format torch-export or onnx or openvino, not safetensors; leave it out" in wrong
    assert "--int8 is for --format onnx or openvino" in refusal("t2t_vit_7", "--int8", "--out", tmp_path / "m.pt2")
    assert "--half and --int8 are two precisions" in refusal("t2t_vit_7", "--half", "--int8", "--out", out)
    assert "--max-drop is for --int8; add --int8" in refusal("t2t_vit_7", "--max-drop", "2", "--out", out)
    assert "--int8 needs trained weights" in refusal("t2t_vit_7", "--int8", "--out", out)
    assert "must end in .xml" in refusal("t2t_vit_7", "--format", "openvino", "--out", out)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_exported_with_its_preprocessing_and_not_twice(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    done = export(run, "--preprocess", "--out", out, "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["bytes"] == out.stat().st_size
    assert (record["path"], record["format"], record["precision"]) == (str(out), "onnx", "float32")
    assert 0 <= record["difference"] < 2e-2
    assert record["accuracy"] is None
    info = open_exported(out).info
    assert info.preprocessing.image == (32, 32)
    assert info.preprocessing.mean[0] == pytest.approx(0.305, abs=0.01)  # of the digits
    assert info.preprocessing.inside
    assert info.spec is not None
    assert ModelSpec.model_validate(info.spec).backbone.embed_dim == 48

    before = out.read_bytes()
    assert refusal(run, "--out", out) == (
        f"--out {out}: exists already; choose another name, or add --force to replace it"
    )
    assert out.read_bytes() == before
    assert export(run, "--half", "--force", "--out", out).exit_code == 0
    assert open_exported(out).info.precision == "float16"
    assert len(out.read_bytes()) < 0.8 * len(before)


def test_weights_beside_openvinos_file_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(b"somebody's")
    message = refusal("t2t_vit_7", "--out", tmp_path / "m.xml")
    assert message.startswith(f"--out {tmp_path / 'm.xml'}: {tmp_path / 'm.bin'}, which holds its weights, exists")
    assert (tmp_path / "m.bin").read_bytes() == b"somebody's"


@pytest.mark.parametrize("name", ["m.onnx", "m.xml"])
def test_the_written_file_is_what_8_bit_integers_are_checked_on(name: str, tmp_path: Path) -> None:
    model = ModelSpec.model_validate(
        {
            "name": "tiny",
            "image_size": 16,
            "num_classes": 10,
            "tokenizer": {"kind": "patch", "patch_size": 8},
            "backbone": {"depth": 1, "embed_dim": 16, "num_heads": 2, "mlp_ratio": 2},
        }
    )
    torch.manual_seed(0)
    built = build_model(model).eval()
    bytes_of = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16))
    images = ((bytes_of / 255 - 0.4) / 0.2).astype(np.float32)
    inside = name == "m.onnx"
    checked = []

    def check(run: LogitsFunction) -> None:
        assert isinstance(run, OnNormalized)
        checked.append(run.model.runtime)
        assert run.model.path.name == name
        assert run.steps.inside == inside
        expected = built(torch.from_numpy(images)).detach().numpy()
        assert np.abs(run(images) - expected).max() < 0.2 * np.abs(expected).max()

    steps = Preprocessing((16, 16), 3, (0.4,) * 3, (0.2,) * 3, 0.9, inside=inside)
    kind = Format.of(Path(name))
    export_model(model, built, tmp_path / name, kind, preprocessing=steps, int8=Int8([images], check))
    assert checked == ["onnxruntime" if inside else "openvino"]


def test_8_bit_integers_keep_the_accuracy(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.xml"
    done = export(run, "--int8", "--calibration-images", "64", "--max-drop", "3", "--json", "--out", out)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["bytes"] == out.stat().st_size + out.with_suffix(".bin").stat().st_size
    measured: dict[str, Any] = record["accuracy"]
    assert measured["images"] == 270
    expected = evaluate_weights(load_spec(run / "spec.yaml"), Weights(file=str(run)), "validation").top1
    assert measured["float32"] == pytest.approx(expected)
    assert abs(measured["int8"] - measured["float32"]) <= 0.03
    info = open_exported(out).info
    assert (info.precision, info.preprocessing.image) == ("int8", (32, 32))


def test_8_bit_integers_that_lose_accuracy_are_refused(run: Path, tmp_path: Path) -> None:
    spec = load_spec(run / "spec.yaml")
    model = build_model(spec.model)
    load_weights(model, run)
    calibration = Calibration(spec, None, images=20, max_drop=1)
    int8 = calibration.int8(model.eval())
    assert [len(batch) for batch in int8.batches] == [16, 4]

    int8.check(lambda images: model(torch.from_numpy(images)).detach().numpy())
    assert calibration.accuracy is not None
    assert calibration.accuracy.drop == 0

    bad = Int8(int8.batches, lambda _: int8.check(lambda images: np.eye(10, dtype=np.float32)[[0] * len(images)]))
    message = r"falls from \d+\.\d% to 10\.0%, by \d+\.\d points, and --max-drop is 1; nothing was written"
    with pytest.raises(InputError, match=message):
        export_model(spec.model, model, tmp_path / "m.onnx", Format.ONNX, int8=bad)
    assert list(tmp_path.iterdir()) == []


def test_the_run_of_a_search_is_its_winner(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("version: 1\nsearch: {}\n")
    (tmp_path / "best.yaml").write_text("version: 1\nmodel: {kind: timm, name: resnet10t, image_size: 32}\n")
    done = export(tmp_path, "--out", tmp_path / "m.safetensors")
    assert done.exit_code == 0, done.output
    assert "resnet10t: written to" in done.stdout
