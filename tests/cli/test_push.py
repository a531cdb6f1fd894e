"""t2tbuild push: a trained run becomes a repository of the Hub, which timm and t2tbuild read again."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import ModelCard, constants
from typer.testing import CliRunner, Result

import t2tbuild.timm  # noqa: F401 - registers our models
from t2tbuild import build_model, load_spec, load_weights, train
from t2tbuild.cli import app
from t2tbuild.errors import InputError
from t2tbuild.spec.write import write_spec
from tests.hub import TOKEN, Hub, serve_hub
from tests.training.photos import write_photos

pytestmark = pytest.mark.slow  # a short training, and timm

NOISE = "{kind: fake, num_classes: 10, image_size: 16, samples: 64}"
TINY = ["train.epochs=1", f"train.data={NOISE}", "model.backbone.depth=1", "train.batch_size=32"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(load_spec("t2t_vit_7", TINY), tmp_path_factory.mktemp("runs") / "run").run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY", "HF_HUB_OFFLINE", "T2TBUILD_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def push(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["push", *map(str, arguments)])


def test_a_dry_run_writes_the_files_and_shows_the_card(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2TBUILD_OFFLINE", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    environment = json.loads((run / "environment.json").read_text())
    environment["command"] = ["t2tbuild", "train", "t2t_vit_7", "--data", "/home/me/photos", "--token=hush"]
    (run / "environment.json").write_text(json.dumps(environment))
    done = push(run, "us/digits", "--dry-run", "--licence", "mit")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (run / "hub").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert "us/digits: nothing was published" in done.stderr
    card = ModelCard((run / "hub" / "README.md").read_text())
    assert done.stdout.strip() == card.content.strip()
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "mit",
        "timm",
        "image-classification",
    )
    assert "t2t-vit" in card.data.tags
    params = sum(value.numel() for value in build_model(load_spec(run / "spec.yaml").model).state_dict().values())
    assert f"| parameters | {params:,} (" in card.text
    assert 'timm.create_model("hf-hub:us/digits", pretrained=True)' in card.text
    assert "t2tbuild train t2t_vit_7 --data photos --token=***" in card.text
    assert re.search(r"\| top-1, validation \| \d+\.\d\d% \|", card.text)
    assert "depth: 1" in card.text
    assert "/home/me" not in card.content
    assert str(run) not in card.content
    config = json.loads((run / "hub" / "config.json").read_text())
    assert config["pretrained_cfg"]["license"] == "mit"
    again = push(run, "us/digits", "--dry-run")  # the files of an earlier one are replaced
    assert "license: unknown" in again.stdout
    assert "No licence of these weights was given." in again.stdout
    assert "license" not in json.loads((run / "hub" / "config.json").read_text())["pretrained_cfg"]


def test_timm_preprocesses_as_the_training_did(tmp_path: Path) -> None:
    """The card's snippet, resolve_model_data_config, on what push wrote and on an exported folder."""
    photos = write_photos(tmp_path / "photos", train=4, validation=4)
    data = f"{{kind: folder, root: {photos}, workers: 0, crop_pct: 0.8, interpolation: bilinear, mean: [0.3, 0.4, 0.5]"
    data += ", std: [0.2, 0.25, 0.3], image_size: 16, augment: null}"
    changes = ["train.epochs=1", f"train.data={data}", "model.backbone.depth=1", "train.batch_size=4"]
    run = train(load_spec("t2t_vit_7", changes), tmp_path / "run").run
    assert push(run, "us/photos", "--dry-run").exit_code == 0
    out = tmp_path / "folder"
    exported = CliRunner().invoke(app, ["export", str(run), "--format", "timm", "--out", str(out)])
    assert exported.exit_code == 0, exported.exception
    for folder in (run / "hub", out):
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
        config = timm.data.resolve_model_data_config(model)
        assert ([*config["mean"]], [*config["std"]]) == ([0.3, 0.4, 0.5], [0.2, 0.25, 0.3])
        assert (config["crop_pct"], config["interpolation"], config["input_size"]) == (0.8, "bilinear", (3, 16, 16))


def test_what_was_pushed_is_read_by_timm_and_by_t2tbuild(run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    done = push(run, "us/digits", "--licence", "mit", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["url"] == f"{hub.url}/us/digits"
    assert hub.repositories["us/digits"].keys() == {"README.md", "config.json", "model.safetensors"}

    spec = load_spec(run / "spec.yaml").model
    ours, again = build_model(spec).eval(), build_model(spec).eval()
    load_weights(ours, run)
    load_weights(again, "hf-hub:us/digits")
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))[:, : spec.in_chans]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)  # timm passes no endpoint
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    theirs = timm.create_model("hf-hub:us/digits", pretrained=True).eval()
    with torch.inference_mode():
        expected = ours(images)
        assert torch.equal(again(images), expected)
        torch.testing.assert_close(theirs(images), expected)

    hub.repositories["us/digits"]["README.md"] = b"edited on the Hub"
    kept = push(run, "us/digits")
    assert "us/digits has a README.md, which stays; --force replaces it" in kept.stderr
    assert kept.stdout == f"{hub.url}/us/digits\n"
    assert push(run, "us/digits", "--force").exit_code == 0
    assert hub.repositories["us/digits"]["README.md"].startswith(b"---\nlicense: unknown")


def write_search(folder: Path, depth: int) -> Path:
    """The files of a search's run that a model card reads."""
    folder.mkdir()
    write_spec(load_spec("t2t_vit_7", [f"model.backbone.depth={depth}"]), folder / "best.yaml")
    report = {
        "name": "deep_narrow",
        "verdict": "The winner gains 1.2 points over the base.",
        "counts": {"asked": 24},
        "limits": {"macs": 5_000_000_000, "params": None},
    }
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def test_the_card_has_the_verdict_of_the_search(run: Path, tmp_path: Path) -> None:
    search, other = write_search(tmp_path / "search", depth=1), write_search(tmp_path / "other", depth=2)
    assert "## Search" not in push(run, "us/digits", "--dry-run").stdout
    named = push(run, "us/digits", "--dry-run", "--search", search)
    sentence = (
        "Found by t2tbuild's search `deep_narrow`: 24 candidates, macs at most 5,000,000,000. Verdict: The winner"
    )
    assert sentence in named.stdout
    environment = json.loads((run / "environment.json").read_text())
    for folder, found in ((search, True), (other, False)):
        environment["command"] = ["t2tbuild", "train", str(folder / "best.yaml")]
        (run / "environment.json").write_text(json.dumps(environment))
        assert (sentence in push(run, "us/digits", "--dry-run").stdout) == found
    wrong = push(run, "us/digits", "--dry-run", "--search", other)
    assert str(wrong.exception) == f"--search {other}: found another model, t2t_vit_7; leave it out, or name another"
    missing = push(run, "us/digits", "--dry-run", "--search", tmp_path)
    assert str(missing.exception).startswith(f"--search {tmp_path}: not the run of a complete search")


def test_the_licence_of_the_initial_weights_is_said(run: Path) -> None:
    spec = (run / "spec.yaml").read_text()
    (run / "spec.yaml").write_text(spec + "weights: released:t2t_vit_7\n")
    card = push(run, "us/digits", "--dry-run", "--license", "mit").stdout
    assert "They were trained from `t2t_vit_7` of Shanghai Yitu Technology Co., Ltd.: BSD-3-Clause-Clear (https" in card


def test_errors_are_one_message(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    search = write_search(tmp_path / "search", depth=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    for arguments, message in [
        ((run, "us/digits"), "publishing needs a token that may write; log in with: hf auth login"),
        ((run, "digits"), "'digits' is not a repository of the Hub; write ORG/NAME"),
        ((tmp_path / "none", "us/digits", "--dry-run"), f"{tmp_path / 'none'}: no such folder; name the --out folder"),
        ((tmp_path, "us/digits", "--dry-run"), f"{tmp_path}: not the run of a training; name the --out folder"),
        ((search, "us/digits", "--dry-run"), f"{search}: the run of a search has no trained model; first: t2tbuild"),
        ((run, "us/digits", "--dry-run", "--licence", "My own"), "--licence 'My own': write an identifier of the Hub"),
        ((run, "us/d", "--dry-run", "--out", tmp_path / "full"), f"--out {tmp_path / 'full'}: holds mine.txt; name a"),
    ]:
        done = push(*arguments)
        assert isinstance(done.exception, InputError), (arguments, done.output)
        assert str(done.exception).startswith(message)
    assert not (run / "hub").exists()
