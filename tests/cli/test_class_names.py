"""Names of classes, from the folders of a training to the evaluation of other folders, the report and a summary."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from t2tbuild import load_spec
from t2tbuild.cli import app
from t2tbuild.errors import InputError, SpecError
from t2tbuild.spec import ModelSpec, Spec
from t2tbuild.spec.write import write_spec
from t2tbuild.weights.label_names import label_metadata, read_label_names

pytestmark = pytest.mark.slow

COLOURS = {"ant": (230, 30, 30), "bee": (30, 230, 30), "cow": (30, 30, 230), "10": (230, 230, 30)}
NAMES = ("10", "ant", "bee", "cow")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def evaluated(*arguments: str | Path) -> dict[str, object]:
    done = run("evaluate", *arguments, "--json")
    assert done.exit_code == 0, done.exception
    found: dict[str, object] = json.loads(done.stdout)
    return found


def draw(folder: Path, images: int, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            pixels = np.clip(numbers.normal(colour, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, spec.yaml and run/, the training of a small model on the data."""
    root = tmp_path_factory.mktemp("names")
    draw(root / "data" / "train", 12, 0)
    draw(root / "data" / "val", 6, 1)
    stages = [{"patch_size": 16, "overlap": 0}]
    model = {"name": "small", "image_size": 32, "num_classes": 7, "tokenizer": {"stages": stages}}
    model |= {"backbone": {"depth": 1, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2}}
    data = {"kind": "folder", "root": str(root / "data"), "augment": None, "workers": 0}
    train = {"data": data, "epochs": 8, "batch_size": 12, "lr": 3e-3, "warmup_epochs": 0, "precision": "float32"}
    write_spec(Spec.model_validate({"version": 1, "model": model, "train": train}), root / "spec.yaml")
    done = run("train", root / "spec.yaml", "--out", root / "run")
    assert done.exit_code == 0, done.exception
    assert f"num_classes: 7 of small is replaced by the 4 of the data ({root / 'data'})" in done.stderr
    assert "4 classes (10, ant, bee, cow)" in done.stderr
    return root


def test_a_run_has_the_names_of_its_folders(root: Path) -> None:
    assert load_spec(root / "run" / "spec.yaml").model.label_names == NAMES
    newest = sorted((root / "run" / "checkpoints").iterdir())[-1]
    assert tuple(json.loads((newest / "config.json").read_text())["label_names"]) == NAMES
    assert read_label_names(root / "run") == NAMES
    summary = run("summarize", root / "run" / "spec.yaml", "--fast")
    assert "classes: 10, ant, bee, cow" in summary.stdout
    assert json.loads(run("summarize", root / "run" / "spec.yaml", "--fast", "--json").stdout)["label_names"] == [
        *NAMES
    ]


@pytest.mark.parametrize("source", ["run", "weights"])
def test_a_class_is_found_by_its_name_where_others_are_missing(root: Path, tmp_path: Path, source: str) -> None:
    whole = evaluated(root / "run")
    assert isinstance(whole["classes"], dict)
    assert whole["top1"] > 0.7  # type: ignore[operator]
    some = tmp_path / "some"
    for name in ("bee", "cow"):
        shutil.copytree(root / "data" / "val" / name, some / name)
    of: tuple[str | Path, ...] = (root / "run",)
    if source == "weights":  # a spec without names, and the run's beside its weights
        of = (root / "spec.yaml", "--weights", root / "run")
    done = run("evaluate", *of, "--data", some, "--json")
    assert done.exit_code == 0, done.exception
    assert "lacks 2 of the model's 4 classes: 10, ant" in done.stderr
    found = json.loads(done.stdout)
    assert found["missing"] == ["10", "ant"]
    assert found["classes"] == whole["classes"] | {"10": None, "ant": None}


def test_a_renamed_class_folder_is_an_error_unless_labels_go_by_their_order(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "data" / "val", tmp_path / "renamed")
    (tmp_path / "renamed" / "bee").rename(tmp_path / "renamed" / "Beee")
    refused = run("evaluate", root / "run", "--data", tmp_path / "renamed")
    assert isinstance(refused.exception, SpecError)
    (error,) = refused.exception.diagnostics
    assert (error.path, error.rule) == ("train.data.root", "data-classes")
    assert "'Beee'" in error.message
    assert "'bee'" in error.message
    by_order = evaluated(root / "run", "model.label_names=null", "--data", tmp_path / "renamed")
    assert list(by_order["classes"]) == ["10", "Beee", "ant", "cow"]  # type: ignore[call-overload]


def test_the_confusion_matrix_and_the_mistakes(root: Path, tmp_path: Path) -> None:
    """Of a model whose head takes every ant for a bee, and a report that shows them."""
    copied = tmp_path / "run"
    shutil.copytree(root / "run", copied)
    newest = sorted((copied / "checkpoints").iterdir())[-1]
    state = load_file(newest / "model.safetensors")
    state["head.weight"][1], state["head.bias"][1] = 0, -100
    weights = tmp_path / "wrong.safetensors"
    save_file(state, weights)
    done = run("evaluate", copied, "--weights", weights, "--out", copied)
    assert done.exit_code == 0, done.exception
    assert "ant taken for" in done.stdout
    for name in ("confusion.csv", "confusion.png", "mistakes.csv", "mistakes.png"):
        assert str(copied / name) in done.stderr
    rows = list(csv.reader((copied / "confusion.csv").read_text().splitlines()))
    assert rows[0][1:] == [*NAMES]
    matrix = np.array([row[1:] for row in rows[1:]], dtype=int)
    assert matrix.sum(axis=1).tolist() == [6] * 4
    assert matrix[1, 1] == 0
    mistakes = list(csv.DictReader((copied / "mistakes.csv").read_text().splitlines()))
    assert len(mistakes) == 24 - np.trace(matrix)
    assert all(Path(one["image"]).parent.name == one["class"] != one["predicted"] for one in mistakes)
    with Image.open(copied / "mistakes.png") as sheet:
        assert sheet.width > 400
    assert run("report", copied).exit_code == 0
    page = (copied / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "10, ant, bee, cow" in page


def test_weights_of_other_classes_are_refused(root: Path, tmp_path: Path) -> None:
    """Or else labels would go by the names of the spec, in another order than that of the head."""
    (weights,) = sorted((root / "run" / "checkpoints").glob("*/model.safetensors"))[-1:]
    other = tmp_path / "other.safetensors"
    save_file(load_file(weights), other, metadata=label_metadata(("bee", "ant", "10", "cow")))
    refused = run("evaluate", root / "run", "--weights", other)
    assert isinstance(refused.exception, InputError)
    for part in ("class 0", str(other), "'bee'", "'10'"):
        assert part in str(refused.exception)
    for names in ("[bee, ant, '10', cow]", "null"):
        evaluated(root / "run", f"model.label_names={names}", "--weights", other)
    evaluated(root / "run", "--weights", weights)


def test_a_run_of_a_version_without_names_continues_and_gets_them(root: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(root / "run", copied)
    before = yaml.safe_load((copied / "spec.yaml").read_text())
    del before["model"]["label_names"]
    (copied / "spec.yaml").write_text(yaml.safe_dump(before, sort_keys=False))
    again = run("train", root / "spec.yaml", "--out", copied)
    assert again.exit_code == 0, again.exception
    assert f"{copied} is complete" in again.stderr
    model = load_spec(copied / "spec.yaml").model
    assert isinstance(model, ModelSpec)
    assert model.label_names == NAMES
