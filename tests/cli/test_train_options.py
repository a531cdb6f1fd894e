"""t2tbuild train with options in place of fields, and with a run in place of a spec."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from t2tbuild import load_search_spec, load_spec
from t2tbuild.cli import app
from t2tbuild.cli.search import _with_data
from t2tbuild.cli.search_progress import resume_command
from t2tbuild.cli.train_options import continue_training_command, open_with_options
from t2tbuild.errors import InputError, SpecError
from t2tbuild.spec.data import FolderData
from t2tbuild.spec.load import read_search_spec
from t2tbuild.training.device import pick_device
from t2tbuild.training.resolve import resolve
from t2tbuild.training.run_directory import read_json_lines

TINY = ["--image-size", "16", "--batch-size", "8", "--device", "cpu", "model.backbone.depth=1", "train.data.workers=0"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder of images, in the folder of `photos`."""
    folder = tmp_path_factory.mktemp("work")
    for split, images in (("train", 4), ("val", 1)):
        for number, name in enumerate(("cat", "dog")):
            (folder / "photos" / split / name).mkdir(parents=True)
            for image in range(images):
                pixels = np.full((20, 20, 3), 100 * number + image, np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / split / name / f"{image}.png")
    options = ["--data", str(folder / "photos"), "--epochs", "2", "--lr", "2e-3", "--seed", "3", *TINY]
    done = run("train", "t2t_vit_7", *options, "--out", str(folder / "run"))
    assert done.exit_code == 0, done.exception
    return folder / "run"


def test_options_are_short_forms_of_fields(trained: Path) -> None:
    spec = load_spec(trained / "spec.yaml")
    assert spec.train is not None
    assert (spec.train.epochs, spec.train.batch_size, spec.train.lr, spec.train.seed) == (2, 8, 2e-3, 3)
    assert (spec.model.image_size, spec.model.num_classes, spec.train.data.kind) == (16, 2, "folder")


@pytest.mark.parametrize(
    ("option", "value"), [("--epochs", "0"), ("--lr", "fast"), ("--batch-size", "1.5"), ("--seed", "-1")]
)
def test_an_error_names_the_option(option: str, value: str) -> None:
    wrong = run("train", "t2t_vit_7", option, value)
    assert wrong.exit_code == 1  # the runner shows the exception; main() exits with 2
    assert isinstance(wrong.exception, SpecError)
    (found,) = wrong.exception.diagnostics
    assert (found.file, found.text) == (option, f"{option} {value}")
    assert value in found.message


def test_errors_in_what_data_sets_name_the_option(trained: Path, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    for command in (["train", "t2t_vit_7"], ["data"], ["evaluate", str(trained)], ["search"]):
        wrong = run(*command, *([] if command == ["data"] else ["--data"]), nowhere)
        assert isinstance(wrong.exception, SpecError), command
        places = {(one.file, one.text) for one in wrong.exception.diagnostics}
        assert places == {("--data", f"--data {nowhere}")}, command


def test_overrides_change_fields_of_data_and_options_come_last(trained: Path) -> None:
    photos = str(trained.parent / "photos")
    overrides = ["train.data.validation=null", "train.data.image_size=32", "train.epochs=2"]
    train = open_with_options("t2t_vit_7", overrides, photos, {"--epochs": "3"}).spec.train
    assert train is not None
    assert isinstance(train.data, FolderData)
    assert (train.data.root, train.data.validation, train.data.image_size, train.epochs) == (photos, None, 32, 3)
    changed = ["train.data.validation=train", "--data", photos, "--split", "validation", "--device", "cpu", "--json"]
    found = run("evaluate", str(trained), *changed)
    assert found.exit_code == 0, found.exception
    assert json.loads(found.stdout)["images"] == 8


def test_data_of_a_search_follow_a_whole_proxy_and_precede_its_fields(trained: Path) -> None:
    photos = str(trained.parent / "photos")
    given = ["search.proxy.data.image_size=32", "search.proxy=quick", "search.trials=4"]
    search = read_search_spec("deep_narrow", _with_data("deep_narrow", given, photos)).spec.search
    assert isinstance(search.proxy.data, FolderData)
    assert (search.proxy.data.root, search.proxy.data.image_size) == (photos, 32)
    assert (search.proxy.preset, search.trials) == ("quick", 4)


def test_errors_of_files_and_devices_name_the_option(tmp_path: Path) -> None:
    missing = run("train", "t2t_vit_7", "--data", str(tmp_path / "nowhere"))
    assert isinstance(missing.exception, SpecError)
    assert missing.exception.diagnostics[-1].file == "--data"
    for options in (["--weights", "nowhere.pth"], ["--device", "gpu"], ["--gpus", "99"], ["--image-size", "3x"]):
        wrong = run("train", "t2t_vit_7", *options)
        assert isinstance(wrong.exception, InputError), options
        assert options[0].removeprefix("--") in str(wrong.exception)
        assert options[1] in str(wrong.exception)
    with pytest.raises(InputError, match="cuda:99"):
        pick_device("cuda:99")


def test_a_complete_run_is_trained_further_in_a_new_one_from_its_weights(trained: Path, tmp_path: Path) -> None:
    again = run("train", str(trained), "--json")
    assert json.loads(again.stdout)["epochs"] == 2
    assert f"train {trained} --epochs N" in again.stderr
    longer = run("train", str(trained), "--epochs", "3", "--device", "cpu", "--out", str(tmp_path / "longer"))
    assert longer.exit_code == 0, longer.exception
    assert f"training starts from {trained / 'checkpoints'}" in longer.stderr
    spec = load_spec(tmp_path / "longer" / "spec.yaml")
    assert spec.weights is not None
    assert spec.train is not None
    assert (spec.weights.file, spec.train.epochs, spec.train.lr) == (str(trained), 3, 2e-3)
    assert load_spec(trained / "spec.yaml").weights is None
    same = run("train", str(trained), "--epochs", "3", "--out", str(trained))
    assert isinstance(same.exception, InputError)
    assert "a run keeps its spec" in str(same.exception)


def test_an_unfinished_run_continues_in_place_from_another_folder(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = trained / "metrics.jsonl"
    result = read_json_lines(metrics)[-1]["result"]
    metrics.write_text("".join(f"{line}\n" for line in metrics.read_text().splitlines()[:-1]))
    monkeypatch.chdir(tmp_path)
    done = run("train", str(trained), "--json")
    assert "training continues from" in done.stderr
    assert json.loads(done.stdout)["validation_accuracy"] == result["validation_accuracy"]


def test_the_command_that_continues_finds_relative_data(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.parent)
    monkeypatch.delenv("T2TBUILD_DATA", raising=False)
    absolute = load_spec(trained / "spec.yaml")
    command = continue_training_command(Path("run"), absolute, ["--gpus", "2"])
    assert command == f"t2tbuild train {trained} --gpus 2"
    relative = resolve(load_spec(trained / "spec.yaml", ["train.data.root=photos"]))
    expected = f"T2TBUILD_DATA={trained.parent} t2tbuild train {trained}"
    assert continue_training_command(Path("run"), relative, []) == expected
    monkeypatch.setattr("sys.argv", ["t2tbuild", "search", "deep_narrow", "--device", "cpu"])
    search = load_search_spec("deep_narrow", ["search.proxy.data={kind: folder, root: photos}"])
    expected = f"T2TBUILD_DATA={trained.parent} t2tbuild search resume {trained} --device cpu"
    assert resume_command(Path("run"), search) == expected


def test_the_run_of_a_search_names_its_best_model(tmp_path: Path) -> None:
    for name in ("spec.yaml", "best.yaml", "environment.json"):
        (tmp_path / name).write_text("")
    wrong = run("train", str(tmp_path))
    assert isinstance(wrong.exception, InputError)
    assert f"t2tbuild train {tmp_path / 'best.yaml'}" in str(wrong.exception)
