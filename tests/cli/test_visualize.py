"""t2tbuild visualize: figures of real models, their statistics, and errors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from t2tbuild import build_model, load_spec
from t2tbuild.cli import app
from t2tbuild.errors import InputError

ROOT = Path(__file__).parents[2]
SMALL = ["model.image_size=[32, 48]", "model.backbone.depth=2", "model.num_classes=10"]


def visualize(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["visualize", *arguments])


def pictures_json(*arguments: str) -> dict[str, Any]:
    done = visualize(*arguments, "--json")
    assert done.exit_code == 0, done.exception
    record: dict[str, Any] = json.loads(done.stdout)
    return record


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """An image whose size and shape differ from the model's."""
    path = tmp_path / "half grey.png"
    pixels = np.zeros((60, 50, 4), dtype=np.uint8)
    pixels[:, 25:] = 200
    Image.fromarray(pixels, "RGBA").save(path)
    return path


@pytest.mark.slow
def test_every_kind_of_figure_is_written_and_listed(tmp_path: Path, photograph: Path) -> None:
    out = tmp_path / "seen"
    against = ["--against", str(tmp_path / "cnn.yaml")]
    (tmp_path / "cnn.yaml").write_text("version: 1\nmodel: {kind: timm, name: resnet10t, image_size: [64, 96]}\n")
    both = ["--format", "png", "--format", "svg"]
    done = visualize("t2t_vit_7", *SMALL, "--image", str(photograph), "--out", str(out), *against, *both)
    assert done.exit_code == 0, done.exception
    stems = ["features", "features_against", "channels", "features_side_by_side"]
    stems += [f"{what}_half_grey" for what in ("attention", "token_attention", "tokens")]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")
    )
    for path in out.iterdir():
        assert path.name in done.stdout
    assert done.stdout.startswith(f"figures in {out}\n")
    with Image.open(out / "attention_half_grey.png") as picture:
        assert min(picture.size) > 300
    assert "t2t_vit_7, random weights (seed 0)" in done.stderr
    assert "sample photograph" not in done.stderr


def test_json_has_the_statistics_of_layers(tmp_path: Path) -> None:
    record = pictures_json("t2t_vit_7", *SMALL, "--what", "features", "--out", str(tmp_path))
    assert [Path(one["file"]).name for one in record["files"]] == ["features.png", "channels.png"]
    (model,) = record["models"]
    assert (model["images"], model["image_size"], model["mean"]) == (["china"], [32, 48], [0.485, 0.456, 0.406])
    assert model["weights"] == "random weights (seed 0)"
    assert [layer["name"] for layer in model["layers"]] == ["stage 1", "stage 2", "tokens", "block 0", "block 1"]
    assert [layer["channels"] for layer in model["layers"]] == [64, 64, 256, 256, 256]
    for layer in model["layers"]:
        assert layer["dead_share"] == layer["dead"] / layer["channels"]
        assert 0 < layer["redundancy"] < 1


def test_a_run_is_drawn_with_its_trained_weights(tmp_path: Path) -> None:
    model = ["model.backbone.depth=1", "model.image_size=16", "model.num_classes=10"]
    recipe = ["train.data={kind: fake, samples: 16, num_classes: 10}", "train.epochs=1", "train.batch_size=16"]
    trained = CliRunner().invoke(app, ["train", "t2t_vit_7", *model, *recipe, "--out", str(tmp_path / "run")])
    assert trained.exit_code == 0, trained.exception
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    config = json.loads((checkpoint / "config.json").read_text())["pretrained_cfg"]
    for named in ("run", "run/spec.yaml"):
        record = pictures_json(str(tmp_path / named), "--what", "tokens", "--out", str(tmp_path / "seen"))
        (seen,) = record["models"]
        assert seen["weights"] == f"weights of {checkpoint}"
        assert seen["image_size"] == [16, 16]
        assert (seen["mean"], seen["std"]) == (config["mean"], config["std"]) != ([0.485, 0.456, 0.406], seen["std"])
    given = pictures_json(
        "t2t_vit_7", *model, "--weights", str(tmp_path / "run"), "--what", "tokens", "--out", str(tmp_path)
    )
    assert given["models"][0]["weights"] == f"weights of {tmp_path / 'run'}"
    assert given["models"][0]["mean"] == config["mean"]


def test_all_leaves_out_what_a_cnn_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "cnn.yaml").write_text("version: 1\nmodel: {kind: timm, name: resnet10t, image_size: 64}\n")
    done = visualize(str(tmp_path / "cnn.yaml"), "--out", str(tmp_path / "seen"))
    assert done.exit_code == 0, done.exception
    assert "resnet10t has no attention that can be drawn" in done.stderr
    assert "resnet10t has no tokens that can be drawn" in done.stderr
    assert "scikit-learn's photograph china.jpg" in done.stderr
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["channels.png", "features.png"]
    for what, message in (
        ("attention", "no attention whose matrix is known"),
        ("tokens", "has no patch tokens"),
    ):
        alone = visualize(str(tmp_path / "cnn.yaml"), "--out", str(tmp_path / "seen"), "--what", what)
        assert isinstance(alone.exception, InputError)
        assert message in str(alone.exception)


@pytest.mark.slow
def test_every_block_and_images_of_one_name(tmp_path: Path, photograph: Path) -> None:
    other = tmp_path / "other" / photograph.name
    other.parent.mkdir()
    Image.open(photograph).convert("L").save(other)
    third = photograph.with_name("half_grey-2.png")
    third.write_bytes(photograph.read_bytes())
    images = [word for one in (third, photograph, other) for word in ("--image", str(one))]
    options = ["--what", "attention", "--block", "all", "--token", "0,2"]
    record = pictures_json("vit_s16", *SMALL, *images, *options, "--out", str(tmp_path / "seen"))
    names = [Path(one["file"]).name for one in record["files"]]
    assert names == ["attention_half_grey-2.png", "attention_half_grey.png", "attention_half_grey-3.png"]


def test_dollar_signs_of_a_path_are_shown_as_they_are(tmp_path: Path, photograph: Path) -> None:
    image = tmp_path / r"$\frac$.png"
    image.write_bytes(photograph.read_bytes())
    for what in ("features", "tokens"):
        pictures_json("vit_s16", *SMALL, "--image", str(image), "--what", what, "--out", str(tmp_path / "seen"))


def test_the_model_gets_the_centre_of_the_image(photograph: Path) -> None:
    from t2tbuild.report.visual.loaded_model import load_model

    spec = load_spec("t2t_vit_7", ["model.image_size=[16, 32]", "model.backbone.depth=1", "model.in_chans=1"])
    model = load_model(spec, None)
    picture = model.load_image(photograph)
    assert picture.pixels.shape == (16, 32, 3)
    assert picture.tensor.shape == (1, 1, 16, 32)
    back = picture.tensor[0, 0] * model.std[0] + model.mean[0]
    assert back[:, :14].abs().max() < 0.01
    assert (back[:, 18:] - 200 / 255).abs().max() < 0.01
    assert model.mean == pytest.approx((0.449,))
    assert build_model(spec.model)(picture.tensor).shape == (1, 1000)


ERRORS = [
    (["t2t_vit_7", "--image", "x" * 300 + ".png"], f"--image {'x' * 80}: no such file"),
    (["t2t_vit_7", "--image", "docs"], "--image docs: not a file; name an image"),
    (["t2t_vit_7", "--what", "tokens", "--block", "3"], "--block is for attention, which --what tokens"),
    (
        ["t2t_vit_7", "--what", "features", "--token", "1,1"],
        "--token is for attention and tokens",
    ),
    (["t2t_vit_7", "--image", "nowhere.png"], "--image nowhere.png: no such file"),
    (["t2t_vit_7", "--image", "README.md"], "--image README.md: cannot be read: not an image; name a PNG or JPEG file"),
    (["t2t_vit_41"], "no such shipped name"),
    (
        ["t2t_vit_7", "--block", "last"],
        "--block: 'last' is not a block; write a number from 0, -1 for the last, or all",
    ),
    (
        ["t2t_vit_7", *SMALL, "--what", "attention", "--block", "2"],
        "--block 2: no such block; there are block 0, block 1;",
    ),
    (["t2t_vit_7", "--token", "7"], "--token: '7' is not a token; write its row and column, for example 7,7"),
    (
        ["t2t_vit_7", *SMALL, "--what", "tokens", "--token", "2,0"],
        "--token 2,0 is not on the grid of 2 x 3 tokens; write from 0,0 to 1,2",
    ),
    (["t2t_vit_7", "--what", "tokens", "--against", "resnet50"], "--against compares features, which --what tokens"),
    (["t2t_vit_7", "--weights", "nowhere.pth"], "nowhere.pth: no such file or folder of weights"),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS)
def test_errors_are_reported(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = visualize(*arguments, "--out", str(tmp_path / "seen"))
    assert isinstance(done.exception, InputError), done.exception
    assert message in str(done.exception)
    assert done.stdout == ""


def test_an_error_is_reported_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from t2tbuild.cli import app\n"
        "try: app()\n"
        "except BaseException as error: print(error)\n"
        "assert not {'torch', 'matplotlib', 'timm'} & set(sys.modules)"
    )
    arguments = ["visualize", "t2t_vit_7", "--image", "nowhere.png", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "--image nowhere.png: no such file\n"), done.stderr
