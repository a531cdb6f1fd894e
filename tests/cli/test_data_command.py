"""t2tbuild data: what is in a dataset."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from typer.testing import CliRunner, Result

from t2tbuild.cli import app
from t2tbuild.errors import InputError, SpecError
from t2tbuild.training.data.inspection import difference_hash
from tests.command import run_t2tbuild


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", *arguments])


def picture(seed: int, size: tuple[int, int] = (60, 48)) -> Image.Image:
    """A picture of a few soft blobs: pictures of two seeds differ."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes; two validation images are copies of training images, one of them of the other class."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "photos"
    for number, (split, name) in enumerate([("train", "cat"), ("train", "dog"), ("val", "cat"), ("val", "dog")]):
        (root / split / name).mkdir(parents=True)
        for index in range(5 if split == "train" else 2):
            picture(10 * number + index).save(root / split / name / f"{index}.png")
    picture(0, (45, 36)).save(root / "val" / "cat" / "smaller.jpg", quality=70)
    picture(1).filter(ImageFilter.GaussianBlur(0.5)).save(root / "val" / "dog" / "blurred.png")
    picture(90, (24, 80)).convert("L").save(root / "train" / "dog" / "gray.png")
    (root / "train" / "cat" / "text.jpg").write_text("no image")
    (root / "train" / "cat" / ".DS_Store").write_text("")
    for name in ("train/cat/phone.HEIC", "val/dog/phone.heic", "val/dog/camera.NEF"):
        (root / name).write_bytes(b"")
    return root


def test_it_counts_what_is_there_and_finds_copies_across_splits(photos: Path) -> None:
    done = run("photos", "--image-size", "32", "--json")
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    train, validation = found["splits"]["train"], found["splits"]["validation"]
    assert (train["images"], train["per_class"], train["modes"]) == (12, {"cat": 5, "dog": 6}, {"RGB": 10, "L": 1})
    assert (train["width"], train["height"]["max"]) == ({"min": 24, "median": 60, "max": 60}, 80)
    (broken,) = train["unreadable"]
    assert broken == {"name": str(photos / "train" / "cat" / "text.jpg"), "reason": "not an image"}
    assert validation["per_class"] == {"cat": 3, "dog": 3}
    (leakage,) = found["leakage"]
    copies = {Path(one["name"]).name: (Path(one["other"]).name, one["same_class"]) for one in leakage["duplicates"]}
    assert copies == {"smaller.jpg": ("0.png", True), "blurred.png": ("1.png", False)}
    assert found["files_not_read"] == {".heic": 2, ".nef": 1}
    assert list(Path.cwd().glob("*.png")) == []


def test_it_prints_the_findings_and_draws_a_sheet(photos: Path) -> None:
    done = run("photos", "train.data.augment.random_erasing=0.5", "--image-size", "32x48")
    assert done.exit_code == 0, done.exception
    assert "1 training image cannot be read, and is replaced by the next readable one (up to 10," in done.stdout
    assert "2 classes; unreadable images are not counted" in done.stdout
    for text in (
        "\n  photos/train/cat/text.jpg (not an image)",
        "leakage: 2 images of validation",
        "1 of them with another label",
    ):
        assert text in done.stdout
    assert "3 files are not read: .heic 2, .nef 1; convert such images to JPEG or PNG" in done.stdout
    assert "random erasing (50%)" in done.stdout
    assert "32 x 48 pixels" in done.stdout
    command = "t2tbuild train t2t_vit_7 train.data.augment.random_erasing=0.5 --data photos --image-size 32x48"
    assert f"next: {command}" in done.stdout
    with Image.open(photos.parent / "photos-sheet.png") as sheet:
        assert sheet.size[0] > 9 * 128
        assert len(set(sheet.convert("RGB").resize((50, 20)).get_flattened_data())) > 100


def test_an_override_without_data_is_no_folder(photos: Path) -> None:
    spec = Path("mine.yaml")
    data = f"{{kind: folder, root: {photos}, image_size: 32}}"
    spec.write_text(f"version: 1\nmodel: t2t_vit_7\ntrain: {{data: {data}}}\n")
    done = run("--spec", str(spec), "train.data.augment=null")
    assert done.exit_code == 0, done.exception
    assert "none: images are only resized" in done.stdout


def test_unreadable_images_that_are_held_out_are_left_out(photos: Path) -> None:
    for number in range(6):
        for name in ("cat", "dog"):
            (photos / "train" / name / f"broken-{number}.jpg").write_text("no image")
        (photos / "val" / "cat" / f"broken-{number}.jpg").write_text("no image")
    done = run("photos/train", "train.data.holdout=0.5", "--image-size", "32")
    assert done.exit_code == 0, done.exception
    assert "held-out images cannot be read, and each is left out of evaluations (they count towards" in done.stdout
    done = run("photos", "--image-size", "32")
    assert "6 validation images cannot be read, and the first ends the training" in done.stdout


def test_wrong_data_is_refused(tmp_path: Path) -> None:
    assert isinstance(run().exception, InputError)
    assert "digits: is built in" in str(run("digits").exception)
    layouts = "nowhere/train/CLASS/.* or .*nowhere/CLASS/"
    missing = run(str(tmp_path / "nowhere"))
    assert isinstance(missing.exception, SpecError)
    assert re.search(layouts, str(missing.exception))
    assert "--sheet" in str(run("digits", "--sheet", "sheet.txt").exception)


@pytest.mark.parametrize("named", ["train/cat", "val/dog"])
def test_the_folder_of_one_class_of_a_split_names_the_folder_of_the_splits(named: str, photos: Path) -> None:
    message = str(run(f"photos/{named}").exception)
    assert f"write {photos}, if its folders are the classes" in message
    assert f"or {photos}/{named}/CLASS/*.jpg" in message


def test_the_folder_of_one_class_names_its_parent(tmp_path: Path) -> None:
    for name in ("astro", "birds"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        picture(0).save(tmp_path / "photos" / name / "0.png")
    assert f"write {tmp_path / 'photos'}, if" in str(run(str(tmp_path / "photos" / "astro")).exception)
    (tmp_path / "photos" / "birds" / "0.png").unlink()
    assert "if its folders" not in str(run(str(tmp_path / "photos" / "astro")).exception)


def test_the_hash_survives_resizing_and_distinguishes_pictures() -> None:
    def distance(one: Image.Image, other: Image.Image) -> int:
        return (difference_hash(one.convert("L")) ^ difference_hash(other.convert("L"))).bit_count()

    assert distance(picture(0), picture(0).resize((200, 180), Image.Resampling.BICUBIC)) <= 2
    assert min(distance(picture(0), picture(seed)) for seed in range(1, 30)) > 8


def test_a_folder_without_a_readable_image_has_no_sheet(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "broken" / name / f"{number}.jpg").write_text("text")
    done = run_t2tbuild("data", "broken", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no training image can be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.png"))
