"""Released weights and those of the Hub where weights are named: in a spec, in options, and in timm."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from typer.testing import CliRunner

import t2tbuild.timm
from t2tbuild import build_model, load_spec, load_weights
from t2tbuild.cli import app
from t2tbuild.cli.train_options import open_with_options
from t2tbuild.cli.weights import choose_weights
from t2tbuild.errors import InputError
from t2tbuild.modules.vit import T2TViT
from t2tbuild.report.model_card import _licence
from t2tbuild.spec import ModelSpec, Spec
from t2tbuild.spec.weights import Weights
from t2tbuild.spec.write import write_spec
from t2tbuild.timm_registry import _with_released_file
from t2tbuild.training.init_model import init_model
from t2tbuild.training.prediction import TorchClassifier
from t2tbuild.training.preprocessing import find_preprocessing
from t2tbuild.training.reports import Notice, Report
from t2tbuild.training.resolve import resolve
from t2tbuild.weights.released import find_released, released_weights
from t2tbuild.weights.resolve import resolve_weights
from tests.releases import Releases, serve


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Releases]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY", "HF_HUB_OFFLINE", "T2TBUILD_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("T2TBUILD_CACHE", str(tmp_path / "cache"))
    with serve() as server:
        monkeypatch.setenv("T2TBUILD_RELEASES", server.url)
        yield server


def release(server: Releases, name: str, checkpoint: Any, tmp_path: Path) -> None:
    """Serve a checkpoint as the released file of a name."""
    torch.save(checkpoint, tmp_path / "checkpoint")
    server.files[find_released(name).file] = (tmp_path / "checkpoint").read_bytes()


def as_released(model: T2TViT) -> dict[str, Any]:
    """A checkpoint as the authors' training script leaves it: of a wrapped model, with averaged weights and options."""
    averaged = {f"module.{key}": value for key, value in model.state_dict().items()}
    return {"epoch": 309, "args": argparse.Namespace(lr=5e-4), "state_dict": {}, "state_dict_ema": averaged}


@pytest.fixture(scope="module")
def seven() -> T2TViT:
    """A T2T-ViT-7 with weights of no meaning."""
    torch.manual_seed(7)
    return build_model(load_spec("t2t_vit_7").model).eval()


# In a spec


@pytest.mark.parametrize("written", ["released", "{file: released}", "{file: released, reset_head: true}"])
def test_released_in_a_spec_names_the_model(tmp_path: Path, written: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"version: 1\nmodel: t2t_vit_14\nweights: {written}\n")
    spec = load_spec(tmp_path / "mine.yaml")
    assert spec.weights is not None
    assert spec.weights.file == "released:t2t_vit_14"
    write_spec(spec, tmp_path / "written.yaml")
    assert load_spec(tmp_path / "written.yaml") == spec


@pytest.mark.parametrize("file", ["released:t2t_vit_24.token_labelling", "hf-hub:org/name@v1"])
def test_other_downloads_are_kept_as_they_are(tmp_path: Path, file: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"version: 1\nmodel: t2t_vit_24\nweights: '{file}'\n")
    spec = load_spec(tmp_path / "mine.yaml")
    assert spec.weights is not None
    assert spec.weights.file == file


def test_a_file_of_that_name_is_written_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nmodel: t2t_vit_7\nweights: ./released\n")
    weights = load_spec(tmp_path / "mine.yaml").weights
    assert weights is not None
    assert weights.file == str(tmp_path / "released")


def test_released_as_an_override_and_for_a_teacher() -> None:
    spec = load_spec("t2t_vit_7", ["model.name=t2t_vit_10", "weights=released"])
    assert spec.weights is not None
    assert spec.weights.file == "released:t2t_vit_10"
    spec = load_spec("t2t_vit_7", ["train.distill={teacher: t2t_vit_14, weights: released}"])
    assert spec.train is not None
    assert spec.train.distill is not None
    assert spec.train.distill.weights is not None
    assert spec.train.distill.weights.file == "released:t2t_vit_14"


@pytest.mark.slow
def test_a_training_starts_from_released_weights(server: Releases, seven: T2TViT, tmp_path: Path) -> None:
    """The head is left out for other classes, and the position embedding is interpolated."""
    release(server, "t2t_vit_7", as_released(seven), tmp_path)
    reports: list[Report] = []
    spec = resolve(load_spec("t2t_vit_7", ["weights=released"]))  # on digits: ten classes, 64 pixels
    model = init_model(spec, reports.append)
    assert torch.equal(model.state_dict()["blocks.6.mlp.fc1.weight"], seven.state_dict()["blocks.6.mlp.fc1.weight"])
    first, second = (one.text for one in reports if isinstance(one, Notice))
    assert first == "training starts from released:t2t_vit_7"
    assert second.startswith("released:t2t_vit_7 has other classes: the head is randomly initialised")
    assert [path for path, _ in server.requests] == ["/71.7_T2T_ViT_7.pth.tar"]


def test_a_name_without_released_weights_is_an_error_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nmodel: t2t_vit_dense\nweights: released\n")
    done = CliRunner().invoke(app, ["train", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "run")])
    assert isinstance(done.exception, InputError)
    assert f"{tmp_path / 'mine.yaml'}:3:10: error: 't2t_vit_dense' has no released weights; " in str(done.exception)
    assert "there are t2t_vit_7, t2t_vit_10" in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_released_without_a_model_is_one_message(small: ModelSpec) -> None:
    spec = Spec.model_validate({"version": 1, "model": small.model_dump(), "weights": "released"})
    with pytest.raises(InputError, match="names no model here; write released:NAME"):
        init_model(resolve(spec), lambda _: None)


# In commands


def test_the_weights_option_of_commands(server: Releases, capsys: pytest.CaptureFixture[str]) -> None:
    """Of evaluate, export and visualize: `released` goes by the model's name, and is downloaded at once."""
    server.files[find_released("t2t_vit_7").file] = b"PK\x03\x04weights"
    server.files[find_released("t2t_vit_24.token_labelling").file] = b"PK\x03\x04others"
    chosen = choose_weights("t2t_vit_7", load_spec("t2t_vit_7"), "released")
    assert chosen is not None
    assert chosen.file == "released:t2t_vit_7"
    assert find_released("t2t_vit_7").is_cached
    printed = capsys.readouterr().err
    assert "downloading released:t2t_vit_7" in printed
    assert printed.count("licence BSD-3-Clause-Clear; t2tbuild's own licence is Apache-2.0") == 1
    assert choose_weights("t2t_vit_7", load_spec("t2t_vit_7"), "released") is not None
    assert "licence" not in capsys.readouterr().err  # once, at the download
    chosen = choose_weights(
        "t2t_vit_24", load_spec("t2t_vit_24", ["weights=released:t2t_vit_24.token_labelling"]), None
    )
    assert chosen is not None
    assert resolve_weights(chosen.file).checkpoint == find_released("t2t_vit_24.token_labelling").path
    assert "84.2% is with an auxiliary head" in capsys.readouterr().err
    with pytest.raises(InputError, match="'vit_s16' has no released weights"):
        choose_weights("vit_s16", load_spec("vit_s16"), "released")


@pytest.mark.parametrize(("given", "file"), [("released", "released:t2t_vit_7"), ("hf-hub:us/cats", "hf-hub:us/cats")])
def test_the_weights_option_of_a_training(given: str, file: str) -> None:
    spec = open_with_options("t2t_vit_7", (), None, {"--weights": given}).spec
    assert spec.weights is not None
    assert spec.weights.file == file


def test_predict_in_python_names_the_released_weights_of_the_model(tmp_path: Path) -> None:
    """As the commands do: the message is that of the model's name."""
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="'vit_s16' has no released weights"):
        t2tbuild.predict("vit_s16", tmp_path / "a.png", weights="released")


def test_the_card_names_the_licences_of_all_weights_behind_a_model() -> None:
    distill = "train.distill={teacher: t2t_vit_14, weights: released}"
    card = _licence(load_spec("t2t_vit_7", ["weights=hf-hub:us/cats", distill]), "mit")
    assert "They were trained from `hf-hub:us/cats` of the Hugging Face Hub" in card
    assert "They were distilled from `t2t_vit_14` of Shanghai Yitu Technology Co., Ltd.: BSD-3-Clause-Clear" in card


def test_the_preprocessing_of_released_weights() -> None:
    """predict, export, bench --formats and visualize preprocess as the weights were trained; nothing is downloaded."""
    cifar = Weights(file="released:t2t_vit_14.cifar10")
    steps = find_preprocessing(load_spec("t2t_vit_14"), cifar)
    assert (steps.mean, steps.crop_pct, steps.image) == ((0.4914, 0.4822, 0.4465), 1, (224, 224))
    own = find_preprocessing(load_spec("t2t_vit_14"), Weights(file="released"))
    assert (own.mean, own.crop_pct) == ((0.485, 0.456, 0.406), 0.9)
    trained = load_spec("t2t_vit_14", ["train.data={kind: folder, root: ., mean: [0.3], std: [0.2], crop_pct: 0.8}"])
    data = find_preprocessing(trained, cifar)  # what the spec says comes first
    assert (data.mean, data.crop_pct) == ((0.3,) * 3, 0.8)


def test_predict_and_export_preprocess_released_weights_alike(
    server: Releases, small: ModelSpec, tmp_path: Path
) -> None:
    """In the file of the weights nothing says it: they are others' files."""
    name = "t2t_vit_14.cifar10"
    release(server, name, {"net": build_model(small).state_dict()}, tmp_path)
    spec = Spec(version=1, model=small)
    write_spec(spec, tmp_path / "small.yaml")
    arguments = ["--weights", f"released:{name}", "--format", "timm", "--out", str(tmp_path / "m")]
    done = CliRunner().invoke(app, ["export", str(tmp_path / "small.yaml"), *arguments])
    assert done.exit_code == 0, done.exception
    config = json.loads((tmp_path / "m" / "config.json").read_text())["pretrained_cfg"]
    assert (config["mean"], config["std"]) == ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])
    assert config["crop_pct"] == 1
    classifier = TorchClassifier(spec, Weights(file=f"released:{name}"), device="cpu")
    pixels = torch.randint(0, 256, (1, 3, *small.image), dtype=torch.uint8)
    mean, std = (torch.tensor(config[field]).view(3, 1, 1) for field in ("mean", "std"))
    torch.testing.assert_close(classifier.input.prepare(pixels), (pixels / 255 - mean) / std)


# Files that need care


def test_the_auxiliary_head_of_token_labelling_is_left_out(small: ModelSpec, tmp_path: Path) -> None:
    trained = build_model(small)
    trained.head.weight.data.normal_()
    state = {f"module.{key}": value for key, value in trained.state_dict().items()}
    state |= {"module.aux_head.weight": torch.zeros(10, 32), "module.aux_head.bias": torch.zeros(10)}
    torch.save({"state_dict_ema": state}, tmp_path / "84.2.pth.tar")
    model = build_model(small)
    load_weights(model, tmp_path / "84.2.pth.tar")
    assert torch.equal(model.head.weight, trained.head.weight)


def test_the_files_for_cifar_are_those_of_the_transfer_script(small: ModelSpec, tmp_path: Path) -> None:
    trained = build_model(small)
    trained.head.weight.data.normal_()
    state = {f"module.{key}": value for key, value in trained.state_dict().items()}
    torch.save({"net": state, "acc": 98.3, "epoch": 59}, tmp_path / "cifar10.pth")
    model = build_model(small)
    load_weights(model, tmp_path / "cifar10.pth")
    assert torch.equal(model.head.weight, trained.head.weight)


def test_validate_knows_the_names_of_released_weights(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("version: 1\nmodel: t2t_vit_14\nweights: released:t2t_vit_14.cifar12\n")
    done = CliRunner().invoke(app, ["validate", str(tmp_path / "spec.yaml")])
    assert done.exit_code == 2, done.output
    assert "spec.yaml:3" in done.stdout
    assert "did you mean t2t_vit_14.cifar10?" in " ".join(done.stdout.split())


# In timm


@pytest.mark.slow
def test_pretrained_loads_the_released_file(
    server: Releases, seven: T2TViT, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release(server, "t2t_vit_7", as_released(seven), tmp_path)
    model = timm.create_model("t2t_vit_7", pretrained=True)
    assert "t2t_vit_7: weights of Shanghai Yitu Technology Co., Ltd., licence BSD-3-Clause-Clear" in caplog.text
    loaded, expected = model.state_dict(), seven.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.items())
    assert (model.pretrained_cfg["license"], model.pretrained_cfg["crop_pct"]) == ("bsd-3-clause-clear", 0.9)
    smaller = timm.create_model("t2t_vit_7", pretrained=True, num_classes=3, img_size=64)
    assert torch.equal(smaller.blocks[3].attn.qkv.weight, seven.blocks[3].attn.qkv.weight)
    assert smaller.head.weight.shape == (3, 256)
    assert len(server.requests) == 1
    assert caplog.text.count("weights of ") == 1  # the second time it is in the cache


def mmpretrains(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A checkpoint with the names of mmpretrain for the backbone's norms, the head and the rest."""
    renamed = {}
    for key, value in state.items():
        name = re.sub(r"norm([12])\.", r"ln\1.", key).replace("blocks.", "encoder.")
        name = name.replace("mlp.fc1", "ffn.layers.0.0").replace("mlp.fc2", "ffn.layers.1")
        renamed[f"head.layers.{name}" if name.startswith("head.") else f"backbone.{name}"] = value
    return {"meta": {"epoch": 310}, "state_dict": renamed}


@pytest.mark.parametrize("route", ["url", "file"])
@pytest.mark.parametrize("kind", ["authors", "cifar", "mmpretrain"])
def test_timms_own_routes_unwrap_the_raw_file(
    server: Releases, small: ModelSpec, tmp_path: Path, route: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By url timm hands over the checkpoint as it is; by file it knows some of the keys."""
    trained = build_model(small)
    trained.head.weight.data.normal_()
    state = trained.state_dict()
    wrapped = {f"module.{key}": value for key, value in state.items()}
    checkpoint = {
        "authors": {"epoch": 309, "state_dict": {}, "state_dict_ema": wrapped},
        "cifar": {"net": wrapped, "acc": 98.3},
        "mmpretrain": mmpretrains(state),
    }[kind]
    torch.save(checkpoint, tmp_path / "mine.pth")
    server.files["mine.pth"] = (tmp_path / "mine.pth").read_bytes()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    source = f"{server.url}/mine.pth" if route == "url" else str(tmp_path / "mine.pth")
    model = timm.create_model(
        t2tbuild.timm.ANY,
        spec=small.model_dump(mode="json"),
        num_classes=10,
        pretrained=True,
        pretrained_cfg_overlay={route: source},
    )
    assert {key for key, value in model.state_dict().items() if not torch.equal(value, state[key])} == set()
    assert len(server.requests) == (route == "url")


def test_tags_choose_among_released_files(server: Releases) -> None:
    pretrained = timm.list_pretrained("t2t_vit*")
    assert {*released_weights()} == {*pretrained}
    config = timm.get_pretrained_cfg("t2t_vit_14.cifar10")
    assert (config.num_classes, config.crop_pct, config.mean[0]) == (10, 1.0, 0.4914)
    assert timm.get_pretrained_cfg("t2t_vit_14").num_classes == 1000
    server.files[find_released("t2t_vit_14.cifar10").file] = b"PK\x03\x04weights"
    kwargs = _with_released_file("t2t_vit_14", {"pretrained_cfg": "cifar10"})
    assert kwargs["pretrained_cfg_overlay"]["file"] == str(find_released("t2t_vit_14.cifar10").path)
    mine = {"pretrained_cfg_overlay": {"file": "mine.pth"}}
    assert _with_released_file("t2t_vit_14", mine) == mine
    assert _with_released_file("vit_s16", {}) == {}
    assert t2tbuild.timm.default_cfgs["vit_s16"].default.has_weights is None


def test_a_name_of_ours_without_released_weights_is_timms_error() -> None:
    with pytest.raises(RuntimeError, match="No pretrained weights exist for"):
        timm.create_model("t2t_vit_dense", pretrained=True, device="meta")
