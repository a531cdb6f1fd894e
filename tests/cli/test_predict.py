"""t2tbuild predict: the classes of images by a run, a spec with weights, and what happens to broken images."""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import t2tbuild
from t2tbuild import build_model, load_spec, manifest
from t2tbuild.cli import app
from t2tbuild.errors import InputError, T2TBuildError
from t2tbuild.image_mode import to_mode
from t2tbuild.layout import Grid
from t2tbuild.report.visual.loaded_model import load_model
from t2tbuild.spec.data import CifarData, DigitsData
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.weights import Weights
from t2tbuild.spec.write import write_spec
from t2tbuild.training.data.cifar import prepare
from t2tbuild.training.data.digits import load_digits_data
from t2tbuild.training.data.evaluation_input import evaluation_input
from t2tbuild.training.evaluate import evaluate_weights
from t2tbuild.training.image_paths import find_images
from t2tbuild.training.preprocessing import find_preprocessing
from t2tbuild.weights.exported import open_exported
from tests.training.photos import write_photos

CLASSES = ("class0", "class1", "class2")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def make_run(folder: Path, spec: Spec) -> Path:
    """A run as a training leaves it, with random weights whose classes differ from image to image."""
    torch.manual_seed(0)
    model = build_model(spec.model)
    with torch.no_grad():
        model.head.weight.mul_(100)
        model.head.bias.sub_(model(torch.randn(64, 3, *spec.model.image)).mean(0))
    checkpoint = folder / "checkpoints" / "step-000000001"
    checkpoint.mkdir(parents=True)
    write_spec(spec, folder / "spec.yaml")
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, checkpoint / "model.safetensors")
    manifest.write_manifest(checkpoint, ["model.safetensors"])
    return folder


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", train=6, validation=15)


@pytest.fixture(scope="module")
def trained(photos: Path) -> Path:
    fields = {
        "version": 1,
        "model": {
            "name": "small",
            "image_size": 16,
            "num_classes": 3,
            "label_names": CLASSES,
            "tokenizer": {"kind": "patch", "patch_size": 4},
            "backbone": {"depth": 1, "embed_dim": 16, "num_heads": 2, "mlp_ratio": 2},
        },
        "train": {
            "data": {"kind": "folder", "root": str(photos), "workers": 0, "crop_pct": 0.8, "mean": [0.3], "std": [0.2]},
            "batch_size": 4,
        },
    }
    return make_run(photos.parent / "run", Spec.model_validate(fields))


def test_predictions_are_those_of_the_evaluation(trained: Path, photos: Path) -> None:
    """The same reader and preprocessing: the counts of (class, prediction) are equal, image by image of a split."""
    done = run(trained, photos / "val", "--json", "--top", "3")
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    assert (found["model"], found["num_classes"], found["names_from"]) == ("small", 3, "the model")
    assert found["weights"] == str(trained / "checkpoints/step-000000001")
    counts: Counter[tuple[int, int]] = Counter()
    for one in found["images"]:
        assert sum(score["probability"] for score in one["top"]) == pytest.approx(1)
        assert [score["class"] for score in one["top"]] == [CLASSES[score["label"]] for score in one["top"]]
        counts[CLASSES.index(Path(one["image"]).parent.name), one["top"][0]["label"]] += 1
    evaluated = evaluate_weights(load_spec(trained), Weights(file=str(trained)), "validation")
    assert counts == evaluated.counts
    assert len({predicted for _, predicted in counts}) > 1


def test_the_table_the_csv_file_and_the_sheet(trained: Path, photos: Path, tmp_path: Path) -> None:
    table, sheet = tmp_path / "found.csv", tmp_path / "found.png"
    done = run(trained, photos / "val", "--csv", table, "--sheet", sheet, "--top", "2")
    assert done.exit_code == 0, done.exception
    assert "15 images: class" in done.stdout
    rows = read_csv(table)
    assert list(rows[0]) == ["image", "class", "probability", "class_2", "probability_2", "error"]
    assert [row["image"] for row in rows] == sorted(str(path) for path in (photos / "val").rglob("*.png"))
    assert all(float(row["probability"]) >= float(row["probability_2"]) for row in rows)
    with Image.open(sheet) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > 1000 and drawn.height > 600  # 15 images in rows of six
    single = run(trained, photos / "val/class0/0.png")
    assert single.stdout.count("%") == 3  # a row for each class


def test_python_gives_the_same(trained: Path, photos: Path) -> None:
    found = t2tbuild.predict(trained, [photos / "val"], top=1, batch_size=7)
    whole = json.loads(run(trained, photos / "val", "--json").stdout)
    assert [one.best.label for one in found.images] == [one["top"][0]["label"] for one in whole["images"]]
    assert found.counts.total() == 15
    one = t2tbuild.predict(trained, str(photos / "val/class0/0.png"))
    assert one.images[0].best.name == found.images[0].best.name


def test_broken_images_are_listed_and_the_rest_goes_on(trained: Path, photos: Path, tmp_path: Path) -> None:
    good = (photos / "val/class0/0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(good[:60])
    (tmp_path / "good.png").write_bytes(good)
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "raw.heic").write_bytes(b"")
    done = run(trained, tmp_path, "--csv", tmp_path / "all.csv", "--batch-size", "1")
    assert done.exit_code == 1
    assert "1 file is not read: .heic 1" in done.stderr
    assert "2 images cannot be read:" in done.stderr
    assert f"{tmp_path / 'text.jpg'} (not an image)" in done.stderr
    rows = read_csv(tmp_path / "all.csv")
    assert [(Path(row["image"]).name, bool(row["class"]), bool(row["error"])) for row in rows] == [
        ("good.png", True, False),
        ("cut.png", False, True),
        ("text.jpg", False, True),
    ]
    (tmp_path / "good.png").unlink()
    none = run(trained, tmp_path)
    assert isinstance(none.exception, T2TBuildError)
    assert none.exception.exit_code == 1
    assert "no image can be read" in str(none.exception)


def test_cells_of_the_csv_file_are_no_formulas(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["=1+1", "@SUM(A1)", "-2"]
    image = tmp_path / "+1.png"
    image.write_bytes((photos / "val/class0/0.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    done = run(trained, image.name, "--csv", "x.csv", f"model.label_names={json.dumps(names)}")
    assert done.exit_code == 0, done.exception
    (row,) = read_csv(tmp_path / "x.csv")
    assert {row["class"], row["class_2"], row["class_3"]} == {f"'{name}" for name in names}
    assert row["image"] == "'+1.png"


def test_a_name_that_is_not_utf_8_and_a_line_break(trained: Path, photos: Path, tmp_path: Path) -> None:
    data = (photos / "val/class0/0.png").read_bytes()
    for name in (b"bad\xff.png", b"two\nlines.png"):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(data)
    done = run(trained, tmp_path, "--csv", tmp_path / "x.csv", "--sheet", tmp_path / "x.png", "--json")
    assert done.exit_code == 0, done.exception
    expected = ["bad\ufffd.png", "two lines.png"]
    assert [Path(row["image"]).name for row in read_csv(tmp_path / "x.csv")] == expected
    assert [Path(one["image"]).name for one in json.loads(done.stdout)["images"]] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "'nowhere.png': no such file or folder"),
        (["empty"], "empty: a folder without images: 1 file is not read: .heic 1"),
        (["a.png", "--csv", "x.txt"], "--csv x.txt: must end in .csv"),
        (["a.png", "--sheet", "x.doc"], "--sheet x.doc: must end in .png"),
        (["a.png", "--weights", "nowhere.pth"], "nowhere.pth: no such file or folder of weights"),
        (["model.image_size=32"], "no images; name images, or folders of images"),
        (["a.png", "--device", "tpu"], "device 'tpu': must be cpu"),
    ],
)
def test_wrong_arguments(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty/x.heic").write_bytes(b"")
    Image.new("RGB", (9, 9)).save("a.png")
    wrong = run(trained, *arguments)
    assert isinstance(wrong.exception, InputError)
    assert message in str(wrong.exception)


def test_without_weights_it_is_an_error(photos: Path) -> None:
    wrong = run("t2t_vit_7", photos / "val")
    assert isinstance(wrong.exception, InputError)
    assert "no weights to predict with" in str(wrong.exception)
    with pytest.raises(InputError, match="no weights to predict with"):
        t2tbuild.predict("t2t_vit_7", photos / "val")


def test_weights_of_a_run_take_its_preprocessing_along(trained: Path, photos: Path) -> None:
    """A spec without a train section has none of its own; the names and number of classes are then those beside."""
    spec = load_spec(trained)
    bare = spec.model_copy(update={"train": None})
    image = photos / "val/class1/0.png"
    of_run = t2tbuild.predict(trained, image).images[0].top
    assert t2tbuild.predict(bare, image, weights=trained).images[0].top == of_run
    other = bare.model_copy(update={"model": spec.model.model_copy(update={"num_classes": 5, "label_names": None})})
    with pytest.raises(InputError, match=r"does not have the 5 classes of small: head\.weight"):
        t2tbuild.predict(other, image, weights=trained)


def test_evaluate_prepares_images_as_predict(trained: Path, photos: Path, tmp_path: Path) -> None:
    """A spec without a recipe takes the preprocessing of its weights; a field of the data that is written wins."""
    write_spec(load_spec(trained).model_copy(update={"train": None}), tmp_path / "bare.yaml")

    def loss(*arguments: str | Path) -> float:
        done = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--split", "validation", "--json"])
        assert done.exit_code == 0, done.exception
        return float(json.loads(done.stdout)["loss"])

    bare = [tmp_path / "bare.yaml", "--weights", trained, "--data", photos]
    assert loss(*bare) == pytest.approx(loss(trained), rel=1e-6)
    imagenet = ["train.data.mean=[0.485,0.456,0.406]", "train.data.std=[0.229,0.224,0.225]"]
    assert loss(*bare, *imagenet) != pytest.approx(loss(trained), rel=1e-4)


def test_classes_without_names_have_numbers(trained: Path, photos: Path) -> None:
    spec = load_spec(trained, ["model.label_names=null"])
    found = t2tbuild.predict(spec, photos / "val/class1/0.png", weights=trained)
    assert found.names_from == "numbers"
    assert sorted(score.name for score in found.images[0].top) == ["0", "1", "2"]


def test_a_photograph_is_turned_upright_once(trained: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 24, 3), dtype=np.uint8)
    upright, turned = Image.fromarray(pixels), Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 270 degrees
    upright.save(tmp_path / "upright.png")
    turned.save(tmp_path / "turned.png", exif=exif)
    first, second = t2tbuild.predict(trained, tmp_path).images
    assert first.top == second.top
    once = to_mode(Image.open(tmp_path / "turned.png"), "RGB")
    assert to_mode(once, "RGB") == once == upright


def test_tiny_datasets_are_prepared_as_in_their_evaluation(small: ModelSpec) -> None:
    """CIFAR to the bit. Digits have 17 values, which 8 bits round, so that their pixels are nearly equal."""
    stored = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    spec = Spec(version=1, model=small, train=TrainSpec(data=CifarData(kind="cifar10")))
    steps = evaluation_input(find_preprocessing(spec, None))
    pixels, _ = steps.transform(Image.fromarray(stored))
    expected = prepare(torch.from_numpy(stored).permute(2, 0, 1)[None], image=Grid(32, 32))
    assert torch.equal(steps.prepare(pixels[None]), expected)

    data = DigitsData(image_size=32)
    spec = spec.model_copy(update={"train": TrainSpec(data=data)})
    steps = evaluation_input(find_preprocessing(spec, None))
    digits = load_digits_data(data, in_chans=3, device=torch.device("cpu"))
    from sklearn.datasets import load_digits

    images = [Image.fromarray(np.rint(one * 255 / 16).astype(np.uint8)) for one in load_digits().images]
    prepared = steps.prepare(torch.stack([steps.transform(one)[0] for one in images]))
    expected = digits.splits["test"].images
    nearest = torch.cdist(expected.flatten(1), prepared.flatten(1)).amin(1)
    assert prepared.shape[1:] == expected.shape[1:]
    assert nearest.max() < 1  # over 3,072 values of deviation 1


def test_a_spec_with_the_weights_of_a_run_is_exported_with_the_preprocessing_of_the_run(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    """A spec without a recipe says nothing of it; visualize, predict and the exported file say the same."""
    write_spec(load_spec(trained).model_copy(update={"train": None}), tmp_path / "bare.yaml")
    for kind, out in (("torch-export", "bare.pt2"), ("timm", "bare")):
        arguments = ["--weights", str(trained), "--format", kind, "--out", str(tmp_path / out)]
        exported = CliRunner().invoke(app, ["export", str(tmp_path / "bare.yaml"), *arguments])
        assert exported.exit_code == 0, exported.exception
    steps = open_exported(tmp_path / "bare.pt2").info.preprocessing
    assert steps == find_preprocessing(load_spec(trained), None)
    assert (steps.mean, steps.std, steps.crop_pct) == ((0.3,) * 3, (0.2,) * 3, 0.8)
    of_spec = t2tbuild.predict(tmp_path / "bare.yaml", photos / "val", weights=trained).images
    of_folder = t2tbuild.predict(tmp_path / "bare.yaml", photos / "val", weights=tmp_path / "bare").images
    of_file = t2tbuild.predict(tmp_path / "bare.pt2", photos / "val").images
    for one, other, third in zip(of_spec, of_file, of_folder, strict=True):
        assert [score.label for score in one.top] == [score.label for score in other.top]
        probabilities = [score.probability for score in one.top]
        assert [score.probability for score in other.top] == pytest.approx(probabilities, abs=1e-4)
        assert third.top == one.top
    drawn = load_model(load_spec(tmp_path / "bare.yaml"), Weights(file=str(trained)))
    assert (drawn.mean, drawn.std) == (steps.mean, steps.std)


@pytest.mark.slow
def test_an_exported_file_predicts_as_its_run(trained: Path, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.onnx"
    exported = CliRunner().invoke(app, ["export", str(trained), "--out", str(file), "--preprocess"])
    assert exported.exit_code == 0, exported.exception
    (tmp_path / "broken.jpg").write_text("no image")
    done = run(file, photos / "val", tmp_path / "broken.jpg", "--json", "--sheet", tmp_path / "sheet.png")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert (found["model"], found["runtime"], found["image_size"]) == ("small", "onnxruntime", [16, 16])
    assert [one["image"] for one in found["unreadable"]] == [str(tmp_path / "broken.jpg")]
    of_run = json.loads(run(trained, photos / "val", "--json").stdout)["images"]
    for one, other in zip(found["images"], of_run, strict=True):
        assert one["image"] == other["image"]
        assert [score["class"] for score in one["top"]] == [score["class"] for score in other["top"]]
        expected = [score["probability"] for score in other["top"]]
        assert [score["probability"] for score in one["top"]] == pytest.approx(expected, abs=2e-3)
    wrong = run(file, photos / "val", "--weights", trained)
    assert isinstance(wrong.exception, InputError)


def test_find_images_keeps_the_order_and_each_path_once(photos: Path) -> None:
    first = photos / "val/class2/0.png"
    found = find_images([first, photos / "val", first]).paths
    assert found[0] == str(first)
    assert len(found) == len(set(found)) == 15
    assert list(found[1:]) == sorted(found[1:])


@pytest.mark.slow
def test_a_real_pretrained_model_knows_the_photographs(tmp_path: Path) -> None:
    """EfficientNet-Lite0 sees a palace and a daisy, with timm's own preprocessing of the model."""
    from sklearn.datasets import load_sample_image

    from tests.pretrained import efficientnet_lite0_weights

    for name in ("china.jpg", "flower.jpg"):
        Image.fromarray(load_sample_image(name)).save(tmp_path / Path(name).with_suffix(".png"))
    save_file(efficientnet_lite0_weights(), tmp_path / "lite0.safetensors")
    (tmp_path / "lite0.yaml").write_text(
        "version: 1\nmodel: {kind: timm, name: tf_efficientnet_lite0}\nweights: lite0.safetensors\n"
    )
    done = run(tmp_path / "lite0.yaml", tmp_path / "china.png", tmp_path / "flower.png", "--json")
    assert done.exit_code == 0, done.exception
    assert "ImageNet-1k" in done.stderr
    found = json.loads(done.stdout)
    best = [one["top"][0] for one in found["images"]]
    assert [(one["label"], one["class"]) for one in best] == [(698, "palace"), (985, "daisy")]
    assert all(one["probability"] > 0.15 for one in best)  # 29.8% and 32.3%
