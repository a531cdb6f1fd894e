"""t2tbuild summarize: the table, then its verification by fvcore."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from t2tbuild import load_spec, predict_cost
from t2tbuild.cli import app
from t2tbuild.cost import counter, predict
from t2tbuild.cost.memory import predict_memory
from t2tbuild.cost.model import Cost
from t2tbuild.errors import CostError, InputError
from t2tbuild.spec.model import AnyModel, ModelSpec
from t2tbuild.symbolic.model import ModelPart, model_parts

VERIFIED = "verified by fvcore: parameters and MACs of every module equal those of the built model"
HEAVY = """
import atexit, sys
heavy = ("torch", "timm", "fvcore", "matplotlib")
atexit.register(lambda: sys.stderr.write(",".join(name for name in heavy if name in sys.modules)))
sys.argv[0] = "t2tbuild"
from t2tbuild.cli import main
main()
"""


def summarize(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["summarize", *arguments])


def summary_json(*arguments: str) -> dict[str, Any]:
    done = summarize(*arguments, "--json")
    assert done.exit_code == 0, done.exception
    record: dict[str, Any] = json.loads(done.stdout)
    return record


@pytest.mark.slow
def test_the_table_needs_no_torch_and_is_followed_by_the_verification() -> None:
    fast = subprocess.run(
        [sys.executable, "-c", HEAVY, "summarize", "t2t_vit_7", "--fast"], capture_output=True, text=True
    )
    assert (fast.returncode, fast.stderr) == (0, "")
    whole = summarize("t2t_vit_7")
    assert whole.exit_code == 0
    assert whole.stdout == f"{fast.stdout}{VERIFIED}\n"


def test_json_says_whether_it_was_verified() -> None:
    assert summary_json("t2t_vit_7", "--fast")["verified"] is None
    whole = summary_json("t2t_vit_7")
    assert (whole["verified"], whole["differences"]) == (True, [])


@pytest.mark.parametrize(
    "options", [["--fast", "--device-memory", "1G"], pytest.param(["--depth", "2"], marks=pytest.mark.slow)]
)
def test_the_cost_is_predicted_once(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    predicted: list[ModelSpec] = []

    def counting(model: ModelSpec) -> list[ModelPart]:
        predicted.append(model)
        return model_parts(model)

    monkeypatch.setattr(predict, "model_parts", counting)
    assert summarize("t2t_vit_7", *options).exit_code == 0
    assert len(predicted) == 1


@pytest.fixture
def miscounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make fvcore count one multiply-add too many in one layer."""
    count = counter.count_model

    def with_one_more(model: AnyModel, depth: int, predicted: Cost) -> Cost:
        cost = count(model, depth, predicted)
        blocks = next(part for part in cost.parts if part.name.startswith("backbone"))
        block = blocks.parts[3]
        mlp = block.parts[-1]
        fc1 = mlp.parts[0]._replace(macs=mlp.parts[0].macs + 1)
        mlp = mlp._replace(parts=(fc1, *mlp.parts[1:]))
        block = block._replace(parts=(*block.parts[:-1], mlp))
        changed = blocks._replace(parts=(*blocks.parts[:3], block, *blocks.parts[4:]))
        return dataclasses.replace(cost, parts=tuple(changed if part is blocks else part for part in cost.parts))

    monkeypatch.setattr(counter, "count_model", with_one_more)


@pytest.mark.slow
@pytest.mark.usefixtures("miscounted")
def test_a_difference_names_the_innermost_part_and_fails() -> None:
    done = summarize("t2t_vit_7")
    assert VERIFIED not in done.stdout
    assert isinstance(done.exception, CostError)
    assert done.exception.exit_code == 1
    assert "backbone blocks x 7 > blocks.3 > mlp > fc1: the closed form gives 25," in str(done.exception)
    done = summarize("t2t_vit_7", "--json")
    assert isinstance(done.exception, CostError)
    record = json.loads(done.stdout)
    assert record["verified"] is False
    assert [one["path"] for one in record["differences"]] == ["backbone blocks x 7 > blocks.3 > mlp > fc1"]


def test_the_rows_of_every_depth_add_up() -> None:
    record = summary_json("t2t_vit_14_se", "--fast", "--depth", "4")
    blocks = next(part for part in record["parts"] if part["name"] == "backbone blocks x 14")
    attention = blocks["parts"][0]["parts"][1]
    assert [row["name"] for row in attention["parts"]] == ["qkv", "proj", "se_layer", "products"]
    for row in (blocks, blocks["parts"][0], attention):
        for field in ("params", "trainable_params", "macs"):
            assert sum(inner[field] for inner in row["parts"]) == row[field]
    shown = summarize("t2t_vit_14_se", "--fast", "--depth", "3").stdout
    assert "│     attn " in shown
    assert "qkv" not in shown


def test_image_size_and_batch_size_change_the_counts() -> None:
    record = summary_json(
        "t2t_vit_7", "--fast", "--image-size", "96x128", "--batch-size", "8", "--precision", "bfloat16"
    )
    assert record["image_size"] == [96, 128]
    assert record["macs"] == predict_cost(load_spec("t2t_vit_7", ["model.image_size=[96, 128]"]).model).macs
    assert (record["batch_size"], record["precision"]) == (8, "bfloat16")
    shown = summarize("t2t_vit_7", "--fast", "--image-size", "64", "--batch-size", "1000").stdout
    one = predict_cost(load_spec("t2t_vit_7", ["model.image_size=64"]).model).macs
    total = next(line for line in shown.splitlines() if "total" in line)
    assert [cell.strip() for cell in total.split("│")[-3:-1]] == [f"{one / 1e6:.1f}G", "100.0%"]
    assert f"{one:,}" in shown


def test_memory_and_roofline_are_estimated() -> None:
    device = ["--device-memory", "8GB", "--peak-flops", "100T", "--bandwidth", "1TB/s"]
    record = summary_json("t2t_vit_7", "--fast", "--batch-size", "4", *device)
    model = load_spec("t2t_vit_7").model
    assert isinstance(model, ModelSpec)
    assert record["memory_bytes"] == dataclasses.asdict(predict_memory(model, 4))
    most = record["largest_batch"]
    assert most["device_memory"] == 8 * 10**9
    assert predict_memory(model, most["training"]).training <= 8 * 10**9
    assert predict_memory(model, most["inference"]).inference <= 8 * 10**9
    line = record["roofline"]
    assert line["seconds"] * 1.001 >= max(line["flops"] / 1e14, line["moved"] / 1e12)
    shown = summarize("t2t_vit_7", "--fast", *device).stdout
    assert f"{most['training']:,} images" in shown
    assert "FLOPs per byte" in shown


def test_the_plot_has_a_bar_per_part(tmp_path: Path) -> None:
    assert summarize("t2t_vit_7", "--fast", "--plot", str(tmp_path / "cost.svg")).exit_code == 0
    assert "backbone blocks x 7" in (tmp_path / "cost.svg").read_text()
    assert summarize("t2t_vit_7", "--fast", "--plot", str(tmp_path / "cost.png")).exit_code == 0
    with Image.open(tmp_path / "cost.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.slow
def test_a_timm_model_is_counted_by_fvcore_only(tmp_path: Path) -> None:
    done = summarize("mobilenet_v2", "--image-size", "64", "--depth", "2", "--plot", str(tmp_path / "cost.svg"))
    assert done.exit_code == 0
    assert "counted by fvcore" in done.stdout
    assert "conv_stem" in done.stdout
    assert summary_json("mobilenet_v2", "--image-size", "64")["verified"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet50", "--fast"], "--fast: resnet50 is a timm model"),
        (["resnet50", "--device-memory", "8G"], "--device-memory: resnet50 is a timm model"),
        (
            ["t2t_vit_7", "--device-memory", "much"],
            "--device-memory: 'much' is not an amount from 1 to 1e21; write for example 24G",
        ),
        (
            ["t2t_vit_7", "--peak-flops", "0"],
            "--peak-flops: '0' is not an amount from 1 to 1e21; write for example 312T",
        ),
        (["t2t_vit_7", "--peak-flops", "1T"], "--peak-flops and --bandwidth describe a device together"),
        (["t2t_vit_7", "--plot", "cost.doc"], "--plot cost.doc: must end in .png, .svg, .pdf"),
        (["t2t_vit_7", "--plot", "/nowhere/cost.png"], "--plot /nowhere/cost.png: the folder /nowhere does not exist"),
        (["t2t_vit_7", "--image-size", "0"], "model.image_size"),
        (
            ["t2t_vit_7", "--image-size", "wide"],
            "'wide' is not an image size; write for example 384, or 192x256",
        ),
    ],
)
def test_errors_are_reported(arguments: list[str], message: str) -> None:
    done = summarize(*arguments)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert done.stdout == ""
