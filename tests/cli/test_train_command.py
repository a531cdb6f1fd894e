"""t2tbuild train and evaluate."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from t2tbuild import load_spec
from t2tbuild.cli import app
from t2tbuild.errors import InputError, SpecError
from t2tbuild.report.diagram import diagram_svg
from t2tbuild.spec import ModelSpec
from t2tbuild.training.run_directory import read_json_lines

TINY = ["t2t_vit_7", "model.backbone.depth=1", "train.data.image_size=16", "train.epochs=2", "train.batch_size=256"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    done = run("train", *TINY, "train.ema=0.5", "--out", str(out), "--log", "tensorboard")
    assert done.exit_code == 0, done.exception
    assert "test accuracy" in done.stdout
    return out


def test_progress_of_a_training(tmp_path: Path) -> None:
    progress = run("train", *TINY, "--out", str(tmp_path / "run")).stderr
    assert "token performer 1" in progress
    assert "t2t_vit_7 on digits: 16 x 16 pixels, 10 classes, 2 epochs in batches of 256" in progress
    assert "forecast: " in progress
    assert progress.index("forecast") < progress.index("epoch 1/2")
    assert "ETA" in progress.splitlines()[-2]


def test_a_run_has_its_curves_and_its_event_files(trained: Path) -> None:
    assert (trained / "curves.png").stat().st_size > 1000
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    lines = read_json_lines(trained / "metrics.jsonl")
    shown = [(event.step, event.value) for event in events.Scalars("validation_accuracy")]
    assert shown == [(line["epoch"], pytest.approx(line["validation_accuracy"])) for line in lines[:2]]


def test_a_run_has_the_diagram_of_the_model_as_it_is_trained(trained: Path) -> None:
    model = load_spec(trained / "spec.yaml").model
    assert isinstance(model, ModelSpec)
    assert (model.image, model.num_classes, model.backbone.num_blocks) == ((16, 16), 10, 1)
    assert (trained / "diagram.svg").read_text(encoding="utf-8") == diagram_svg(model)


def test_resume_auto_reports_a_complete_run_and_never_refuses_it(trained: Path) -> None:
    again = run("train", *TINY, "train.ema=0.5", "--out", str(trained), "--resume", "auto")
    assert again.exit_code == 0
    assert f"{trained} is complete" in again.stderr
    assert "test accuracy" in again.stdout
    refused = run("train", *TINY, "train.ema=0.5", "--out", str(trained), "--resume", "never")
    assert isinstance(refused.exception, InputError)
    assert "contains a run already" in str(refused.exception)


def test_a_changed_spec_is_refused_with_the_difference(trained: Path) -> None:
    refused = run("train", *TINY, "train.ema=0.9", "--out", str(trained))
    assert isinstance(refused.exception, InputError)
    assert "-  ema: 0.5" in str(refused.exception)
    assert "+  ema: 0.9" in str(refused.exception)


def test_a_dry_run_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("train", *TINY, "--dry-run", "--json")
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    assert (found["train_images"], found["validation_images"], found["test_images"]) == (1257, 270, 270)
    assert found["loss"] == pytest.approx(2.3, abs=0.3)
    assert found["hours"] == pytest.approx(found["step_seconds"] * 4 * 2 / 3600)
    assert found["checkpoint_bytes"] > 3 * 4 * 843_248  # weights and two moments of the trained ones
    assert list(tmp_path.iterdir()) == []
    assert "dry run, nothing is saved" in run("train", *TINY, "--dry-run").stdout


def test_evaluate_agrees_with_the_result_of_the_training(trained: Path) -> None:
    result = read_json_lines(trained / "metrics.jsonl")[-1]["result"]
    for split, figure in (("test", "test_accuracy"), ("validation", "validation_accuracy")):
        done = run("evaluate", str(trained), "--split", split, "--json")
        assert done.exit_code == 0, done.exception
        found = json.loads(done.stdout)
        assert found["top1"] == result[figure]
        assert found["top1"] <= found["top5"] <= 1
        assert len(found["classes"]) == 10
        assert np.mean(list(found["classes"].values())) == pytest.approx(found["top1"], abs=0.02)
    assert json.loads(run("evaluate", str(trained / "spec.yaml"), "--json").stdout)["top1"] == result["test_accuracy"]


def test_the_averaged_weights_are_evaluated_unless_no_ema_is_given(trained: Path) -> None:
    averaged, plain = (json.loads(run("evaluate", str(trained), *more, "--json").stdout) for more in ([], ["--no-ema"]))
    assert averaged["loss"] != plain["loss"]
    assert plain["weights"].endswith("trained.safetensors")
    old = run("evaluate", str(trained), "--trained", "--json")
    assert json.loads(old.stdout)["loss"] == plain["loss"]
    assert "--trained is deprecated" in old.stderr
    assert "--no-ema" in old.stderr


def test_evaluate_names_the_classes_of_a_folder(trained: Path, tmp_path: Path) -> None:
    for name in [*"0123456789"]:
        folder = tmp_path / "val" / f"digit-{name}"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((20, 20, 3), 25 * int(name), np.uint8)).save(folder / "one.png")
    for data in (tmp_path, tmp_path / "val"):  # with and without a folder for the split
        done = run("evaluate", str(trained), "--data", str(data), "--json")
        assert done.exit_code == 0, done.exception
        assert list(json.loads(done.stdout)["classes"]) == [f"digit-{name}" for name in range(10)]
    assert "digit-" in run("evaluate", str(trained), "--data", str(tmp_path)).stdout


def test_evaluate_reports_what_it_cannot_evaluate(trained: Path, tmp_path: Path) -> None:
    nothing = run("evaluate", *TINY)
    assert isinstance(nothing.exception, InputError)
    assert "add --weights FILE" in str(nothing.exception)
    missing = run("evaluate", *TINY, "--weights", str(tmp_path / "none.pth"))
    assert "no such file or folder of weights" in str(missing.exception)
    nowhere = run("evaluate", str(trained), "--data", str(tmp_path / "nowhere"))
    assert isinstance(nowhere.exception, SpecError)
    assert "expected" in str(nowhere.exception)


def test_evaluate_names_a_broken_checkpoint_and_uses_the_one_before(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    newest = sorted((copy / "checkpoints").iterdir())[-1]
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[100_000] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    done = run("evaluate", str(copy), "--json")
    assert done.exit_code == 0
    assert f"{newest.name}: model.safetensors changed since it was written" in done.stderr
    assert json.loads(done.stdout)["weights"].endswith("step-000000004")


def test_data_with_another_number_of_classes_is_refused(trained: Path, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((20, 20, 3), 99, np.uint8)).save(tmp_path / name / "one.png")
    (tmp_path / ".hidden").mkdir()
    refused = run("evaluate", str(trained), "--data", str(tmp_path))
    assert isinstance(refused.exception, InputError)
    assert "does not have the 3 classes of this data: head.weight [10, 256], the model has [3, 256]" in str(
        refused.exception
    )
    assert refused.stderr == ""


def test_a_logger_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    refused = run("train", *TINY, "--log", "wandb")
    assert isinstance(refused.exception, InputError)
    assert "pip install 't2tbuild[wandb]'" in str(refused.exception)


def test_only_the_main_rank_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")  # without WORLD_SIZE it trains alone
    done = run("train", *TINY, "train.epochs=1", "--out", str(tmp_path / "run"))
    assert done.exit_code == 0
    assert (done.stdout, done.stderr) == ("", "")
    assert os.path.isdir(tmp_path / "run" / "checkpoints")  # noqa: PTH112
