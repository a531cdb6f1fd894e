"""evaluate and bench on exported files: the same accuracy as the weights, and a table of all formats."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from t2tbuild import build_model, load_spec
from t2tbuild.bench.formats import EagerModel
from t2tbuild.cli import app
from t2tbuild.cli.bench_formats import accuracy_on
from t2tbuild.errors import InputError
from t2tbuild.training.data import SplitName
from t2tbuild.training.evaluate import evaluate_exported
from t2tbuild.weights.preprocessing import Preprocessing

SPEC = """version: 1
model:
  name: small
  image_size: 16
  num_classes: 10
  in_chans: 3
  tokenizer:
    stages:
      - {patch_size: 7, overlap: 3, token_dim: 16, attention: performer}
      - {patch_size: 3, overlap: 1}
  backbone: {depth: 2, embed_dim: 32, num_heads: 2, mlp_ratio: 2}
train: {data: {kind: digits, image_size: 16}}
"""
SPLITS: tuple[SplitName, ...] = ("validation", "test")
FILES = ("small.onnx", "small.pt2")


def t2tbuild(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def read(*arguments: str) -> dict[str, Any]:
    done = t2tbuild(*arguments, "--json")
    assert done.exit_code == 0, done.exception or done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec, a file of weights and the exported files of both."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "small.yaml").write_text(SPEC)
    torch.manual_seed(3)
    model = build_model(load_spec(folder / "small.yaml").model)
    save_file(
        {key: 3 * value.contiguous() for key, value in model.state_dict().items()}, folder / "weights.safetensors"
    )
    for name in FILES:
        export(folder, name)
    return folder


def export(folder: Path, name: str, *more: str) -> None:
    done = t2tbuild(
        "export",
        str(folder / "small.yaml"),
        "--weights",
        str(folder / "weights.safetensors"),
        "--out",
        str(folder / name),
        *more,
    )
    assert done.exit_code == 0, done.exception or done.output


@pytest.mark.slow
def test_an_exported_file_has_the_accuracy_of_the_weights(folder: Path) -> None:
    export(folder, "inside.onnx", "--preprocess")
    weights = read("evaluate", str(folder / "small.yaml"), "--weights", str(folder / "weights.safetensors"))
    for name in (*FILES, "inside.onnx"):
        found = read("evaluate", str(folder / name), "--data", "digits")
        assert found["images"] == weights["images"]
        assert found["top1"] == pytest.approx(weights["top1"], abs=1 / weights["images"])
        assert found["loss"] == pytest.approx(weights["loss"], rel=1e-3)
        assert found["weights"] == str(folder / name)


@pytest.mark.slow
@pytest.mark.nightly
def test_the_formats_of_a_model_are_measured_in_one_table(folder: Path, tmp_path: Path) -> None:
    quick = ["--seconds", "0", "--rounds", "3", "--batch-size", "2", "--threads", "1"]
    weights = ["--weights", str(folder / "weights.safetensors")]
    names = ["torch", "onnx", "onnx-half"]
    plot = tmp_path / "formats.png"
    found = read(
        "bench", str(folder / "small.yaml"), "--formats", ",".join(names), *weights, *quick, "--plot", str(plot)
    )
    rows = {row["name"]: row for row in found["formats"]}
    assert list(rows) == names
    assert (found["batch_size"], found["threads"]) == (2, 1)
    assert found["images"] > 100
    assert rows["onnx"]["accuracy"] > 0
    assert [row["precision"] for row in rows.values()] == ["float32", "float32", "float16"]
    assert [row["runtime"] for row in rows.values()] == ["torch", "onnxruntime", "onnxruntime"]
    assert rows["torch"].pop("peak_memory_bytes") is None
    assert rows["torch"]["size_bytes"] == pytest.approx(rows["onnx"]["size_bytes"], rel=0.5)
    assert rows["torch"]["accuracy"] == rows["onnx"]["accuracy"]
    for row in rows.values():
        assert 0 < row["p5_seconds"] <= row["median_seconds"] <= row["p95_seconds"]
        assert row["images_per_second"] == pytest.approx(2 / row["median_seconds"])
        assert row.get("peak_memory_bytes", 1) > 0
    assert plot.stat().st_size > 10_000

    files = read("bench", *(str(folder / name) for name in FILES), "--data", "digits", *quick)
    assert [row["name"] for row in files["formats"]] == list(FILES)
    assert [row["runtime"] for row in files["formats"]] == ["onnxruntime", "torch.export"]
    assert files["formats"][0]["accuracy"] == files["formats"][1]["accuracy"] == rows["onnx"]["accuracy"]
    assert files["formats"][0]["size_bytes"] == (folder / FILES[0]).stat().st_size


def test_the_accuracy_of_the_table_is_that_on_validation_images(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SPEC)
    spec = load_spec(tmp_path / "small.yaml")
    torch.manual_seed(0)
    built = build_model(spec.model)
    built.load_state_dict({key: 3 * value for key, value in built.state_dict().items()})
    torch.nn.init.normal_(built.get_parameter("head.weight"), std=2)
    model = EagerModel("small", built, Preprocessing((16, 16), 3, (0.3,) * 3, (0.3,) * 3))
    expected = {split: evaluate_exported(spec, model, split).top1 for split in SPLITS}
    assert accuracy_on(spec)(model) == (expected["validation"], 270)
    assert expected["validation"] != expected["test"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "FILE", "t2t_vit_7"], "t2t_vit_7: is no exported file, and .*small.onnx is one; measure them apart"),
        (["bench", "FILE", "--compile"], "--compile: exported files run on the CPU as they are"),
        (["bench", "FILE", "FILE"], "a file is named twice"),
        (["bench", "t2t_vit_7", "--formats", "onnx,tflite"], "--formats: must be all, or some of .*, got 'tflite'"),
        (
            ["bench", "t2t_vit_7", "--formats", "onnx,onnx-int8"],
            "--formats onnx-int8: needs weights and data, and t2t_vit_7 has no weights; name a run",
        ),
        (["evaluate", "FILE", "train.data.kind=digits"], "an exported file has no data; .* --data DATA"),
        (
            ["evaluate", "FILE", "train.data.image_size=32", "--data", "digits"],
            "takes images of 16 x 16 pixels with 3 channels, and the data's would be 32 x 32 pixels with 3 channels",
        ),
        (["bench", "t2t_vit_7", "t2t_vit_14", "--formats", "all"], "name one run, or one spec with --weights"),
        (["bench", "t2t_vit_7", "--data", "digits"], "--data is for --formats and exported files"),
        (["evaluate", "FILE"], "an exported file has no data; name the images to evaluate it on: --data DATA"),
        (["evaluate", "FILE", "--weights", "x"], "an exported file has its weights; leave --weights out"),
        (["evaluate", "FILE", "--data", "digits", "--device", "cuda"], "an exported file is evaluated on the CPU"),
    ],
)
@pytest.mark.slow
def test_what_does_not_fit_exported_files_has_one_message(folder: Path, arguments: list[str], message: str) -> None:
    done = t2tbuild(*(str(folder / FILES[0]) if one == "FILE" else one for one in arguments))
    assert isinstance(done.exception, InputError), done.output
    with pytest.raises(InputError, match=message):
        raise done.exception
