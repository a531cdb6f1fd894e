"""Images as users have them: layouts of folders, CSV files, hold-outs, order of classes, bit depths and orientation."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from t2tbuild import load_spec, train
from t2tbuild.errors import FieldError, InputError, TrainingError
from t2tbuild.image_mode import to_mode
from t2tbuild.layout import Grid
from t2tbuild.spec.data import AnyData, Augmentation, CsvData, DigitsData, FolderData, Streamed
from t2tbuild.spec.load import read_spec
from t2tbuild.training import dataset_paths
from t2tbuild.training.data.dataset import MapStyleSplit
from t2tbuild.training.data.folder import ImageFiles, hold_out
from t2tbuild.training.data.loader import StreamedData, open_split
from t2tbuild.training.data.overlap import Overlap, find_overlap
from t2tbuild.training.data_notices import data_notices
from t2tbuild.training.data_option import data_overrides
from t2tbuild.training.dataset_paths import MILD, class_names, count_classes, count_training_classes, resolve_data
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.dry_run import dry_run_training
from t2tbuild.training.evaluate import evaluate
from t2tbuild.training.folder_layout import FolderSplits, find_splits, walk_images
from t2tbuild.training.mistakes import MistakeCollector
from t2tbuild.training.reports import Notice, Report

CPU = torch.device("cpu")
RAMP = (np.arange(12).reshape(3, 4) * 20).astype(np.uint8)
TINY = ["model.backbone.depth=1", "model.image_size=16", "train.epochs=1", "train.batch_size=4"]


def stored(pixels: np.ndarray, kind: str, orientation: int = 1) -> Image.Image:
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({} if kind == "PPM" else {"exif": exif}))
    return Image.open(file)


def draw(root: Path, *names: str, each: int = 2, suffix: str = ".png") -> Path:
    """Draw `each` images into every folder of `names`."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for image in range(each):
            Image.fromarray(np.full((18, 20, 3), 9 * number + image, np.uint8)).save(root / name / f"{image}{suffix}")
    return root


def opened(data: Streamed, split: str) -> ImageFiles:
    found = open_split(data, split, mode="RGB")
    assert isinstance(found, MapStyleSplit)
    assert isinstance(found.source, ImageFiles)
    return found.source


def names_of(files: ImageFiles) -> set[str]:
    return {files.name(index) for index in range(len(files))}


@pytest.mark.parametrize(
    ("pixels", "kind"),
    [
        (RAMP.astype(np.uint16) * 257, "PNG"),
        (RAMP.astype(np.uint16) * 257, "TIFF"),
        (RAMP.astype(np.uint16) * 257, "PPM"),
        (RAMP.astype(np.int32), "TIFF"),
        (RAMP.astype(np.int32) * 257, "TIFF"),
        (RAMP.astype(np.float32) / 255, "TIFF"),
        (RAMP.astype(np.float32), "TIFF"),
    ],
)
def test_an_image_of_more_than_8_bits_equals_the_same_image_in_8_bits(pixels: np.ndarray, kind: str) -> None:
    assert np.array_equal(to_mode(stored(pixels, kind), "L"), RAMP)
    assert np.array_equal(to_mode(stored(pixels, kind), "RGB"), np.stack([RAMP] * 3, axis=-1))


def test_a_dark_16_bit_image_stays_dark() -> None:
    assert np.asarray(to_mode(stored(RAMP.astype(np.uint16), "PNG"), "L")).max() == 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_image_is_upright(kind: str, dtype: type) -> None:
    pixels = RAMP.astype(dtype) * (257 if dtype is np.uint16 else 1)
    turned = {3: RAMP[::-1, ::-1], 6: np.rot90(RAMP, -1), 8: np.rot90(RAMP), 2: RAMP[:, ::-1], 5: RAMP.T}
    for orientation, expected in turned.items():
        assert np.array_equal(to_mode(stored(pixels, kind, orientation), "L"), expected)


def test_damaged_exif_does_not_cost_the_image(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\xff\xff" + b"\1" * 9)
    assert np.array_equal(to_mode(Image.open(tmp_path / "a.png"), "L"), RAMP)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["train/cat", "val/cat", "test/cat"], ("train", "val", "test")),
        (["Training/cat", "Valid/cat", "testing/unsorted"], ("Training", "Valid", "testing")),
        (["train/cat", "dev/cat", "test"], ("train", "dev", None)),  # as ImageNet's test images
        (["train/cat", "val"], ("train", "val", None)),  # an error later: val has no classes
        (["train/cat"], ("train", None, None)),
        (
            ["cat", "dog", ".git/x", "__MACOSX/cat", "@eaDir/cat", ".thumbnails"],
            (".", None, None),
        ),
        (["cat", "dog", "test/cat"], (".", None, "test")),
        (["train", "bus", "val"], (".", None, None)),  # three classes
        (["val/cat", "val/dog"], (None, "val", None)),
        (["train", "val"], (None, None, None)),  # images of no class
        ([], (None, None, None)),
    ],
)
def test_the_usual_layouts_are_found(folders: list[str], expected: tuple[str | None, ...], tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_bytes(b"")
    draw(tmp_path, *folders)
    assert find_splits(tmp_path) == FolderSplits(*expected)


def test_folders_of_systems_are_neither_classes_nor_searched_for_images(tmp_path: Path) -> None:
    draw(tmp_path, "cat", "dog", "@eaDir", ".thumbnails", "cat/@eaDir", "dog/.ipynb_checkpoints", "dog/puppies")
    assert class_names(FolderData(root=str(tmp_path))) == ("cat", "dog")
    found = sorted(path.removeprefix(f"{tmp_path}/") for path in walk_images(str(tmp_path)))
    assert found == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "dog/puppies/0.png", "dog/puppies/1.png"]


def data_of(text: str | Path, current: AnyData | None = None, *, evaluation: bool = False) -> AnyData:
    first = [] if current is None else [f"train.data={json.dumps(current.model_dump(mode='json'))}"]
    overrides = data_overrides(str(text), current, evaluation=evaluation)
    recipe = read_spec("t2t_vit_7", [*first, *overrides]).spec.train
    assert recipe is not None
    return recipe.data


def test_the_data_option_names_the_splits_and_keeps_the_transforms(tmp_path: Path) -> None:
    draw(tmp_path, "split/training/cat", "split/valid/cat", "flat/cat", "flat/dog", "only/val/cat")
    before = FolderData(root="elsewhere", train="a", validation="b", classes=("x",), augment=None, image_size=32)
    split = data_of(tmp_path / "split", before)
    expected = FolderData(
        root=str(tmp_path / "split"), train="training", validation="valid", augment=None, image_size=32
    )
    assert split == expected
    assert data_of(tmp_path / "flat") == FolderData(root=str(tmp_path / "flat"), train=".", validation=None)
    assert data_of(tmp_path / "flat", evaluation=True) == FolderData(
        root=str(tmp_path / "flat"), train=".", validation="."
    )
    assert data_of(tmp_path / "only", evaluation=True) == FolderData(
        root=str(tmp_path / "only"), train="val", validation="val"
    )
    assert data_of(tmp_path / "only") == FolderData(root=str(tmp_path / "only"), train="val", validation=None)
    trained = FolderData(root=str(tmp_path / "flat"), train=".", validation=None, holdout=0.4)
    assert data_of(tmp_path / "flat", trained, evaluation=True) == trained  # not the images that it was trained on
    (tmp_path / "notes.txt").write_text("no data")
    with pytest.raises(InputError, match=r"notes\.txt: is a file; expected a folder of images or a CSV file"):
        data_of(tmp_path / "notes.txt")


def test_a_flat_folder_is_held_out_by_class_and_written_out(tmp_path: Path) -> None:
    draw(tmp_path, "cat", "dog", each=20)
    draw(tmp_path, "eel", each=1)
    given = FolderData(root=str(tmp_path))
    data = resolve_data(given)
    assert isinstance(data, FolderData)
    assert (data.train, data.validation, data.test, data.holdout, data.augment) == (".", None, None, 0.1, MILD)
    assert resolve_data(data) == data
    train_files, held = opened(data, "train"), opened(data, "validation")
    assert names_of(train_files).isdisjoint(names_of(held))
    assert names_of(opened(data, "test")) == names_of(held)
    assert (np.bincount(held.labels).tolist(), np.bincount(train_files.labels).tolist()) == ([2, 2], [18, 18, 1])
    assert any("10% of each class, at least one image" in text for text in data_notices(given, data))
    assert not any("not read" in text for text in data_notices(given, data))
    (tmp_path / "cat" / "phone.heic").write_bytes(b"x")
    assert "1 file is not read: .heic 1; convert such images to JPEG or PNG" in list(data_notices(given, data))


def test_an_additional_image_moves_at_most_one_image_of_a_hold_out() -> None:
    def split(count: int) -> set[bytes]:
        paths = [b"cat/%d.jpg" % number for number in range(count)]
        _, held = hold_out(ImageFiles("", paths, np.zeros(count, np.int32)), 0.2)
        return {held.path(index) for index in range(len(held))}

    assert all(len(split(count) ^ split(count + 1)) <= 2 for count in range(2, 60))
    assert len(split(50)) == 10
    with pytest.raises(FieldError, match=r"no class of .* has two images"):
        hold_out(ImageFiles("x", [b"a", b"b"], np.array([0, 1])), 0.5)


def test_the_default_augmentation_follows_the_number_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path, "train/cat", "val/cat", each=5)
    given = FolderData(root=str(tmp_path))
    assert resolve_data(given).augment == MILD  # type: ignore[union-attr]
    assert "fewer than 100,000" in " ".join(data_notices(given, resolve_data(given)))
    monkeypatch.setattr(dataset_paths, "LARGE", 5)
    assert resolve_data(given).augment == Augmentation()  # type: ignore[union-attr]
    for explicit in (None, Augmentation(hflip=0)):
        assert resolve_data(given.model_copy(update={"augment": explicit})).augment == explicit  # type: ignore[union-attr]


def test_classes_keep_the_order_of_the_user(tmp_path: Path) -> None:
    draw(tmp_path, "1", "2", "10")
    data = FolderData(root=str(tmp_path))
    assert class_names(data) == ("1", "10", "2")
    assert any("order as text: 1, 10, 2;" in text for text in data_notices(data, resolve_data(data)))
    (tmp_path / "order.txt").write_text("2\n10\n\n1\n")
    for classes in ("order.txt", ("2", "10", "1")):
        ordered = data.model_copy(update={"classes": classes})
        assert class_names(ordered) == ("2", "10", "1")
        files = opened(ordered, "train")
        assert {files.name(i).split("/")[-2]: int(files.labels[i]) for i in range(3)} == {"2": 0, "10": 1, "1": 2}
    some = data.model_copy(update={"classes": ("2", "1")})
    assert count_classes(some) == 2
    assert "left out, as train.data.classes does not list them: 10" in list(data_notices(some, resolve_data(some)))


@pytest.mark.parametrize(
    ("folders", "fields", "message"),
    [
        (["train/cat", "valid/cat"], {"train": "train", "validation": "val"}, "write validation: valid"),
        (["train/cat"], {"train": "train", "validation": "val"}, "write validation: null"),
        (["cat", "dog"], {"train": "train"}, r"found folders cat, dog \(write train: \.\)"),
        (["train/cat", "val"], {}, r"no class folders in .*/val: found 2 images and no folders \(expected .*val/CLASS"),
        (["."], {}, "found 2 images and no folders .*expected .*/train/CLASS/.*or .*/CLASS/"),
        (["photos/train/cat", "photos/val/cat"], {}, "one folder, photos, which has the splits .*write .*/photos"),
        (["train/cat", "train/dog", "val/cat", "val/dogs"], {}, "does not have: dogs .*rename dogs to dog"),
        (
            ["train/cat", "train/dog", "val/cat", "val/dog", "val/dogs"],
            {},
            "have: dogs .*every class needs training im",
        ),
        (["cat", "dog"], {"classes": ("cat", "dogs")}, r"dogs has no folder in .* \(write dog\)"),
        (["cat", "dog"], {"classes": "names.txt"}, "names.txt cannot be read"),
    ],
)
def test_an_error_names_what_is_there_and_what_to_write(
    folders: list[str], fields: dict[str, object], message: str, tmp_path: Path
) -> None:
    draw(tmp_path, *folders)
    with pytest.raises(FieldError, match=message):
        count_classes(FolderData.model_validate({"root": str(tmp_path), **fields}))


@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_images_of_one_class_are_refused_before_a_training(tmp_path: Path, kind: str) -> None:
    """They can be evaluated, as a part of the images of a model with more classes."""
    draw(tmp_path, "all", each=4)
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"all/{number}.png,all\n" for number in range(4)))
    data = data_of(tmp_path if kind == "folder" else tmp_path / "labels.csv")
    assert count_classes(data) == 1
    with pytest.raises(FieldError, match="has only one class, all"):
        count_training_classes(data)
    spec = load_spec("t2t_vit_7", [*TINY, *data_overrides(str(data_path(data)), None)])
    with pytest.raises(FieldError, match="has only one class, all"):
        train(spec, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def data_path(data: AnyData) -> str:
    assert isinstance(data, FolderData | CsvData)
    return data.root if isinstance(data, FolderData) else data.file


def test_a_csv_file_names_images_labels_and_splits(tmp_path: Path) -> None:
    draw(tmp_path, "images", each=12)
    lines = [f"images/{number}.png;{number % 3};{('Train', 'val')[number > 7]}" for number in range(12)]
    (tmp_path / "labels.csv").write_text("\ufeffFilename;Class;Split\n" + "\n".join(lines) + "\n")
    data = resolve_data(data_of(tmp_path / "labels.csv"))
    assert isinstance(data, CsvData)
    assert (data.train, data.validation, data.test, data.augment) == ("train", "val", None, MILD)
    assert class_names(data) == ("0", "1", "2")
    assert opened(data, "train").labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert opened(data, "validation").labels.tolist() == [2, 0, 1, 2]
    assert opened(data, "validation").read(0)[0].size == (20, 18)


def test_a_csv_file_without_splits_is_held_out_and_evaluated_whole(tmp_path: Path) -> None:
    draw(tmp_path, "a", "b", each=10)
    rows = [f"{name}/{number}.png,{label}\n" for name, label in (("a", "10"), ("b", "9")) for number in range(10)]
    (tmp_path / "all.csv").write_text("path,label\n" + "".join(rows))
    data = data_of(tmp_path / "all.csv")
    assert isinstance(data, CsvData)
    assert class_names(data) == ("9", "10")  # as numbers
    assert [len(opened(data, split)) for split in ("train", "validation")] == [18, 2]
    whole = data_of(tmp_path / "all.csv", evaluation=True)
    assert isinstance(whole, CsvData)
    assert len(opened(whole, "test")) == 20
    (tmp_path / "dev.csv").write_text("path,label,split\na/0.png,10,dev\nb/0.png,9,dev\n")
    only = data_of(tmp_path / "dev.csv", evaluation=True)
    assert isinstance(only, CsvData)
    assert (class_names(only), len(opened(only, "test"))) == (("9", "10"), 2)
    assert class_names(data.model_copy(update={"classes": ("10", "9")})) == ("10", "9")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\na.png,1\n", "has the columns name, label, and none of them is file or path"),
        ("file,label\na.png,\n", "line 2: no label"),
        ("file,label\nnone.png,1\nneither.png,2\n", r"line 2: no file .*none\.png, and 1 other file is missing"),
        ("file,label\n", r"no lines below its header \(write a first line such as: file,label,split, and below it one"),
        ("", r"some\.csv is empty: its first line must name the columns \(write a first line such as"),
        ("\n\n", r"some\.csv is empty"),
        ("file,label,split\n0.png,1,validation\n", "has validation, and none of them is train"),
        (None, "cannot be read"),
    ],
)
def test_an_error_of_a_csv_file_names_the_line(text: str | None, message: str, tmp_path: Path) -> None:
    draw(tmp_path, ".")
    if text is not None:
        (tmp_path / "some.csv").write_text(text)
    with pytest.raises(FieldError, match=message):
        count_classes(resolve_data(CsvData(file=str(tmp_path / "some.csv"))))


@pytest.mark.slow
def test_a_broken_validation_image_does_not_cost_the_epoch(tmp_path: Path) -> None:
    """The state is saved before the evaluation, and training continues from it when the image is repaired."""
    root = draw(tmp_path / "images", "train/cat", "train/dog", "val/cat", "val/dog", each=4)
    broken = [root / "val" / "cat" / "1.png", root / "val" / "dog" / "3.png"]
    good = [file.read_bytes() for file in broken]
    for file in broken:
        file.write_bytes(b"PNG?")
    spec = load_spec("t2t_vit_7", [*TINY, f"train.data={{kind: folder, root: {root}, workers: 0}}"])
    with pytest.raises(TrainingError) as message:
        dry_run_training(spec)
    assert all(str(file) in str(message.value) for file in broken)
    with pytest.raises(TrainingError, match=r"validation split cannot be read: .*val/cat/1\.png"):
        train(spec, tmp_path / "run")
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
    for file, content in zip(broken, good, strict=True):
        file.write_bytes(content)
    reports: list[Report] = []
    result = train(spec, tmp_path / "run", listener=reports.append)
    notices = [report.text for report in reports if isinstance(report, Notice)]
    assert any("training continues from" in text for text in notices)
    assert (result.epochs, result.test_accuracy, result.test_loss) == (1, None, None)
    found = dry_run_training(spec)
    assert (found.train_images, found.validation_images, found.test_images, found.skipped) == (8, 8, 0, ())
    assert any("augmentation" in note for note in found.notes)


class ByRedValue(nn.Module):
    """Logits of two classes: the second one, the more certain the brighter the image."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(bright), 10 + bright], dim=1)


def held_out_data(root: Path) -> tuple[StreamedData, list[Path]]:
    """A hold-out of four images, the first two of them of class cat, and their paths."""
    draw(root, "cat", "dog", each=10)
    spec = FolderData(root=str(root), workers=0, holdout=0.2)
    data = StreamedData(spec, image=Grid(16, 16), in_chans=3, workers=0, device=CPU)
    return data, [Path(opened(spec, "validation").name(index)) for index in range(4)]


def test_a_mistake_after_a_broken_image_has_its_own_name(tmp_path: Path) -> None:
    data, held = held_out_data(tmp_path)
    held[0].write_bytes(b"PNG?")
    collector = MistakeCollector()
    evaluate(ByRedValue(), data, "test", DistributedContext(CPU), torch.float32, on_batch=collector.add)
    assert collector.seen == 3
    assert [one.image for one in collector.mistakes(data, "test", ("cat", "dog"))] == [str(held[1])]


def test_a_hold_out_without_a_readable_image_is_an_error(tmp_path: Path) -> None:
    data, held = held_out_data(tmp_path)
    for path in held:
        path.write_bytes(b"PNG?")
    with pytest.raises(TrainingError, match="no image of the validation split can be read") as error:
        evaluate(ByRedValue(), data, "validation", DistributedContext(CPU), torch.float32)
    assert str(held[3]) in str(error.value)


@pytest.mark.slow
def test_a_broken_training_image_is_replaced_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw(tmp_path / "images", "train/cat", "train/dog", "val/cat", "val/dog", each=4)
    (root / "train" / "cat" / "1.png").write_bytes(b"PNG?")
    monkeypatch.chdir(tmp_path)
    reports: list[Report] = []
    spec = load_spec("t2t_vit_7", [*TINY, f"train.data={{kind: folder, root: {root}, workers: 0}}"])
    result = train(spec, tmp_path / "run", listener=reports.append)
    notices = [report.text for report in reports if isinstance(report, Notice)]
    place = "images/train/cat/1.png (not an image)"
    assert f"1 training image cannot be read, and is replaced by the next readable one: {place}" in notices
    assert result.skipped == (str(tmp_path / place),)


@pytest.mark.slow
def test_a_broken_image_of_a_hold_out_is_left_out_and_named(tmp_path: Path) -> None:
    draw(tmp_path / "images", "cat", "dog", each=10)
    data = FolderData(root=str(tmp_path / "images"), workers=0, holdout=0.2)
    broken = Path(opened(data, "validation").name(0))
    broken.write_bytes(b"PNG?")
    overrides = [*TINY, f"train.data={{kind: folder, root: {tmp_path / 'images'}, workers: 0, holdout: 0.2}}"]
    reports: list[Report] = []
    result = train(load_spec("t2t_vit_7", overrides), tmp_path / "run", listener=reports.append)
    notices = [report.text for report in reports if isinstance(report, Notice)]
    assert f"1 held-out image cannot be read, and is left out of evaluations: {result.skipped[0]}" in notices
    assert [name.rpartition(" (")[0] for name in result.skipped] == [str(broken)]
    assert result.validation_accuracy in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1)


def test_split_folders_of_a_flat_folder_are_no_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog", "test/cat", "test/dog", "val/cat"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    assert class_names(FolderData(root=str(tmp_path))) == ("cat", "dog")
    assert class_names(FolderData(root=str(tmp_path), train=".", holdout=0.5)) == ("cat", "dog")


def test_a_label_without_training_images_is_an_error_at_its_split(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    lines = ["file,label,split", "0.png,cat,train", "0.png,cat,train", "0.png,catt,val"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    with pytest.raises(FieldError, match="catt") as caught:
        class_names(CsvData(file=str(tmp_path / "labels.csv")))
    assert caught.value.path == ("train", "data", "validation")
    assert caught.value.hint == "rename catt to cat"
    with pytest.raises(FieldError, match="dev") as caught:
        class_names(CsvData(file=str(tmp_path / "labels.csv"), validation="dev"))
    assert caught.value.path == ("train", "data", "validation")


def test_images_that_were_trained_on_are_found_in_other_data(tmp_path: Path) -> None:
    draw(tmp_path / "photos", "cat", "dog", each=10)
    draw(tmp_path / "new", "cat", "dog", each=10)
    rows = [f"photos/{name}/{number}.png,{name}\n" for name in ("cat", "dog") for number in range(10)]
    (tmp_path / "all.csv").write_text("path,label\n" + "".join(rows))
    trained = resolve_data(data_of(tmp_path / "photos"))

    def overlap(data: AnyData, split: str = "test") -> Overlap:
        return find_overlap(trained, resolve_data(data), split)

    assert overlap(data_of(tmp_path / "all.csv", evaluation=True)) == Overlap(20, 18)
    assert overlap(data_of(tmp_path / "photos", evaluation=True)) == Overlap(20, 18)
    assert overlap(trained, "validation") == Overlap(2, 0)
    assert overlap(data_of(tmp_path / "new", evaluation=True)) == Overlap(20, 0)
    assert find_overlap(trained, DigitsData(), "test") == Overlap(0, 0)
