"""t2tbuild diagram: in the terminal, and as a file."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from t2tbuild import load_spec
from t2tbuild.cli import app
from t2tbuild.errors import InputError
from t2tbuild.report.diagram import diagram_svg
from t2tbuild.spec import ModelSpec
from tests.cli.test_summarize import HEAVY, summary_json


def diagram(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["diagram", *arguments])


def test_it_needs_no_torch_and_no_matplotlib(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HEAVY, "diagram", "t2t_vit_14", "--out", str(tmp_path / "model.svg")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, f"written: {tmp_path / 'model.svg'}\n")
    assert "token performer 1" in done.stdout
    spec = load_spec("t2t_vit_14").model
    assert isinstance(spec, ModelSpec)
    assert (tmp_path / "model.svg").read_text(encoding="utf-8") == diagram_svg(spec)


def test_json_has_the_figures_of_summarize() -> None:
    arguments = ["t2t_vit_dense", "model.distillation_token=true", "--image-size", "96x128"]
    done = diagram(*arguments, "--json")
    assert done.exit_code == 0, done.exception
    drawn, summary = json.loads(done.stdout), summary_json(*arguments, "--fast")
    for field in ("name", "image_size", "params", "trainable_params", "macs"):
        assert drawn[field] == summary[field]
    for field in ("grid", "tokens", "channels", "params", "macs"):
        assert [box[field] for box in drawn["boxes"]] == [part[field] for part in summary["parts"]]
    assert drawn["boxes"][0]["window"] == {"patch_size": 7, "overlap": 3, "stride": 4, "padding": 2}
    assert [branch["boxes"][-1]["title"] for branch in drawn["inside"]] == ["attention", "MLP", "dense linear"]


def test_overrides_and_another_image_are_drawn(tmp_path: Path) -> None:
    file = tmp_path / "wide.svg"
    done = diagram("t2t_vit_7", "model.name=wide", "--image-size", "96x160", "--out", str(file))
    assert done.exit_code == 0, done.exception
    assert done.stdout.startswith("wide, image 96 x 160\n")
    root = ElementTree.parse(file).getroot()
    assert "grid 6 × 10" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]  # noqa: RUF001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet50"], "resnet50 is a timm model"),
        (["t2t_vit_7", "--out", "model.png"], "--out model.png: must end in .svg"),
        (["t2t_vit_7", "--out", "/nowhere/model.svg"], "--out /nowhere/model.svg: the folder /nowhere does not exist"),
        (["t2t_vit_7", "--image-size", "wide"], "--image-size: 'wide' is not an image size"),
        (["t2t_vit_41"], "no such shipped name"),
    ],
)
def test_errors_are_reported(arguments: list[str], message: str) -> None:
    done = diagram(*arguments)
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert message in str(done.exception)
    assert done.stdout == ""
